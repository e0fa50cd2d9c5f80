//! Vectors of the reference.
