//! `make bench-device`: what a message and a call to a device cost, next to Go's own libp2p doing the same, and to the same
//! signatures made bare; and what a connection costs.
//!
//! Ours and the peer's take turns within each round, so that both meet the same noise. A ratio is taken of each round; their
//! median, lowest and highest are printed.

mod calls;
mod devices;
mod peer;
mod table;
mod trips;

use std::error::Error;

/// Rounds in which ours and the peer's take turns.
const ROUNDS: usize = 9;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("--simulate") => return devices::simulate(arguments[1].parse()?).await,
        Some("--hold") => return devices::hold().await,
        _ => {}
    }
    // One part, when it is named: trips, calls, devices.
    let named = arguments.iter().find(|argument| !argument.starts_with("--"));
    let wanted = |part: &str| named.is_none_or(|named| named == part);
    let peer = peer::build()?;
    println!("| what | median | lowest – highest | bound | | ours | peer |\n|---|---|---|---|---|---|---|");
    if wanted("trips") {
        trips::compare(&peer, &[]).await?;
        trips::compare(&peer, &["--polite"]).await?;
    }
    if wanted("calls") {
        calls::compare(&peer).await?;
    }
    if wanted("devices") {
        println!("\n| what | | bound | |\n|---|---|---|---|");
        trips::connect(&peer).await?;
        devices::measure().await?;
    }
    Ok(())
}
