//! Ground of the tests that cross layers: real PostgreSQL servers, a real object store, a small
//! disk that fills up, a network that fails, and the built `holdfast` command.
//!
//! Everything here cleans up after itself: on drop, and, through a guard process, also when the
//! test process is killed. Nothing waits for a fixed time: readiness is polled ([`wait_for`]).
//!
//! What cannot be set up is an [`std::io::Error`] whose message says what is missing and which
//! errand (`cargo xtask setup`) provides it.
#![cfg(unix)]

pub mod cli;
pub mod disk;
mod guard;
pub mod pg;
pub mod places;
pub mod power_cut;
pub mod protected;
pub mod proxy;
pub mod random;
pub mod store;
pub mod store_proxy;
mod wait;
pub mod writers;

pub use wait::{eventually, wait_for, wait_for_value};

use std::time::Duration;

/// How long a test that can be lengthened runs: `short` in the ordinary run, and
/// `HOLDFAST_PROVE_SECONDS` when `cargo xtask prove` asks for more.
pub fn prove_duration(short: Duration) -> Duration {
    std::env::var("HOLDFAST_PROVE_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(short, Duration::from_secs)
}

/// How often a test does what it does with chance: `short` in the ordinary run, `HOLDFAST_PROVE_RUNS`
/// when `cargo xtask prove` asks for more.
pub fn prove_runs(short: u32) -> u32 {
    std::env::var("HOLDFAST_PROVE_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}
