//! The `holdfast` command: everything the window can do, scriptable.
//!
//! The result goes to standard output, everything else to standard error. Exit codes: 0 done,
//! 1 internal fault, 2 usage, 3 refused, 4 no such thing, 5 integrity, 6 not permitted,
//! 7 unreachable, 8 cancelled.

mod arguments;
mod bundle;
#[cfg(feature = "development-host")]
mod development_host;
mod keys;
mod output;
mod replication;
mod repository;
mod retention;
mod run;
mod secrets;
mod tables;
mod verify;
mod wal;
mod writers;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::Arguments;
use output::Output;

/// Large buffers pass through many threads here; the allocator of glibc keeps a share for each.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // A second provider in the tree would make rustls panic; this one is named everywhere.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = output::usage(&error);
            let helped = code == ExitCode::SUCCESS;
            return wal::failure_code(std::env::args())
                .filter(|_| !helped)
                .map_or(code, ExitCode::from);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("HOLDFAST_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error")),
        )
        .with_writer(std::io::stderr)
        .init();
    let output = Output::new(arguments.json, arguments.progress);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not start: {error}");
            return ExitCode::from(wal::failure_code(std::env::args()).unwrap_or(1));
        }
    };
    let work = std::panic::AssertUnwindSafe(|| runtime.block_on(run::run(arguments, output)));
    let code = match std::panic::catch_unwind(work) {
        Ok(code) => code,
        Err(panic) => match wal::failure_code(std::env::args()) {
            Some(code) => ExitCode::from(code),
            None => std::panic::resume_unwind(panic),
        },
    };
    // Blocking work that was cancelled must not hold the process up.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    code
}
