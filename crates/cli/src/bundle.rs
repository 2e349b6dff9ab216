//! `bundle`: one snapshot with its WAL, to take along.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use holdfast_engine::bundle::{BundleRequest, BundleResult};
use holdfast_engine::size::bytes;
use holdfast_engine::snapshot::parse_id;
use holdfast_engine::target::parse_time;
use holdfast_engine::{Engine, EngineError, Result};
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::tables::time;

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Make a bundle; it is read back before it gets its name.
    #[command(
        after_help = "Example:\n  holdfast bundle export orders-eu --to /media/disk/orders.tar\n  holdfast verify --bundle /media/disk/orders.tar\n\nOn another machine, with the same passphrase, recovery key or private key:\n  holdfast repo attach /media/disk/orders.tar\n  holdfast restore run orders-eu --target latest --to /srv/copy --start"
    )]
    Export {
        /// The cluster.
        name: String,
        /// The snapshot; the newest that can be restored when none is named.
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// Take WAL so far that this time can be restored to (RFC 3339 with an offset); all that there is
        /// without it.
        #[arg(long, value_name = "TIME")]
        through: Option<String>,
        /// A path that does not exist yet: one file when it ends in .tar, else a folder.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

pub(crate) async fn run(
    engine: &Engine,
    command: BundleCommand,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    let BundleCommand::Export { name, snapshot, through, to } = command;
    let request = BundleRequest {
        cluster: name,
        snapshot: snapshot.as_deref().map(parse_id).transpose()?,
        through: through.as_deref().map(parse_time).transpose()?,
        to: std::path::absolute(&to).map_err(EngineError::file("resolve", &to))?,
    };
    let result = engine.export_bundle(request, cancel.clone()).await?;
    Ok(output.result(&result, text))
}

fn text(made: &BundleResult) -> String {
    let last = made.last_commit.map_or_else(|| "none".to_owned(), time);
    format!(
        "{}: {} objects, {}, read back\nSnapshot {} with WAL from {} to {} on timeline {}; last commit {last}",
        made.path,
        made.objects,
        bytes(made.bytes),
        made.snapshot,
        made.from_lsn,
        made.to_lsn,
        made.timeline,
    )
}
