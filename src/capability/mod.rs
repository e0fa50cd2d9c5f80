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
/// x
#[derive(Clone, Debug)]
pub struct Did;
/// x
#[derive(Clone, Copy, Debug)]
pub struct Nanos(pub u64);
/// x
#[derive(Clone, Debug)]
pub struct Token;
