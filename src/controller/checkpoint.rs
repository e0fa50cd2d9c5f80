//! Places at which a test may hold the operator, to kill or pause it there. Only in builds with the `dev` feature;
//! otherwise [`reached`] is nothing.

/// The steps of the create bracket (docs/architecture.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The live object was read.
    Read,
    /// The attempt was recorded in the status.
    Recorded,
    /// The request was sent, and its reply came or did not.
    Sent,
    /// The id is known, from the reply or from the list.
    Known,
    /// The id was recorded in the status.
    Bound,
}

/// Waits here while the file named by `DMS_OPERATOR_HOLD=<step>:<file>` exists; announces itself by writing
/// `<file>.reached`.
#[cfg(feature = "dev")]
pub async fn reached(step: Step) {
    let Ok(hold) = std::env::var("DMS_OPERATOR_HOLD") else { return };
    let Some((name, file)) = hold.split_once(':') else { return };
    if !name.eq_ignore_ascii_case(&format!("{step:?}")) {
        return;
    }
    let announced = tokio::fs::write(format!("{file}.reached"), name).await;
    tracing::warn!(?step, file, ?announced, "held at a checkpoint by DMS_OPERATOR_HOLD");
    while tokio::fs::try_exists(file).await.unwrap_or(false) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Nothing, in a product build.
#[cfg(not(feature = "dev"))]
#[allow(clippy::unused_async)]
pub async fn reached(_step: Step) {}
