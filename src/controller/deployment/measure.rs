//! stub
use super::{Subject, observe::Details};
use crate::{controller::context::Context, plan::decide::Sight};
pub(super) async fn take(_s: &Subject, _c: &Context, _sight: &Sight, _d: &Details) {}
