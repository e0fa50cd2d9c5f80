//! (work in progress)
/// Placeholder until the room is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// x
    Expired,
}
impl Reason {
    /// x
    #[must_use]
    pub const fn code(self) -> &'static str {
        "Expired"
    }
}
