//! What goes wrong, told in one way: an exit code, one JSON document with a stable code, nothing
//! left behind. `docs/errors.md` lists the codes.
#![allow(clippy::unwrap_used)]

#[path = "errors/disk.rs"]
mod disk;
#[path = "errors/keys.rs"]
mod keys;
#[path = "errors/network.rs"]
mod network;
#[path = "errors/server.rs"]
mod server;
#[path = "errors/usage.rs"]
mod usage;

use holdfast_tests::{
    cli::Cli,
    protected::{PASSPHRASE, failure},
};
use serde_json::Value;

/// A command that cannot reach any keychain.
fn cli(home: &std::path::Path) -> Cli {
    Cli::new(home)
        .unwrap()
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
}

/// The same with the passphrase that the tests use.
fn unlocked(home: &std::path::Path) -> Cli {
    cli(home).env("HOLDFAST_PASSPHRASE", PASSPHRASE)
}

/// Runs a command that is to fail with this exit code and error code.
#[track_caller]
fn fails(cli: &Cli, arguments: &[&str], code: i32, name: &str) -> Value {
    let (found, error) = failure(cli, arguments).unwrap();
    assert_eq!((found, error["code"].as_str().unwrap()), (code, name), "{arguments:?}: {error}");
    // A code alone helps nobody.
    assert!(error["message"].as_str().is_some_and(|text| text.len() > 8), "{error}");
    if code != 8 {
        assert!(error["hint"].as_str().is_some_and(|text| text.len() > 8), "{error}");
    }
    assert_eq!(error["retryable"], code == 7, "{error}");
    error
}
