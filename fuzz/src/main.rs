//! One target under libFuzzer: `HOLDFAST_FUZZ_TARGET=wal holdfast-fuzz CORPUS…`.
#![no_main]

use holdfast_fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static CHOSEN: OnceLock<Target> = OnceLock::new();

/// The target that the environment names; without one there is nothing to do.
fn chosen() -> Target {
    let name = std::env::var("HOLDFAST_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("HOLDFAST_FUZZ_TARGET is {name:?}, not one of {names:?}");
        std::process::exit(2);
    };
    *target
}

fuzz_target!(|bytes: &[u8]| {
    (CHOSEN.get_or_init(chosen).run)(bytes);
});
