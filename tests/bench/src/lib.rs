//! The operator's capability room, alone: it is pure, so what measures it needs nothing else of the operator.

#[path = "../../../src/capability/mod.rs"]
pub mod capability;
