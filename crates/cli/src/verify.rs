//! `verify`: what is stored is read back.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use holdfast_engine::bundle::{OfflineRequest, verify_offline};
use holdfast_engine::size::bytes;
use holdfast_engine::snapshot::parse_id;
use holdfast_engine::verify::{Checked, VerifyRequest, VerifyResult};
use holdfast_engine::{Engine, Result};
use tokio_util::sync::CancellationToken;

use crate::arguments::Arguments;
use crate::output::Output;
use crate::secrets;
use crate::tables::time;

/// `holdfast verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  holdfast verify orders-eu --json\n  holdfast verify orders-eu --level pages --snapshot ID\n  holdfast verify orders-eu --sample 1/7\n  holdfast verify --bundle orders.tar --level pages"
)]
pub(crate) struct Verify {
    /// The cluster whose repository is read and whose snapshots are judged; not needed when there is only one.
    #[arg(conflicts_with = "bundle")]
    pub(crate) name: Option<String>,
    /// structure (signatures and references), data (every byte), cluster (every file put together and compared
    /// with what was copied from the server) or pages (their pages too, and WAL record by record).
    #[arg(long, default_value = "data", value_name = "LEVEL")]
    pub(crate) level: String,
    /// Only part N of M of packs, WAL and files: 1/7 on Monday, 2/7 on Tuesday. What is skipped does not count
    /// as verified.
    #[arg(long, value_name = "N/M")]
    pub(crate) sample: Option<String>,
    /// Only this snapshot, and of packs and WAL only what it needs.
    #[arg(long, value_name = "ID")]
    pub(crate) snapshot: Option<String>,
    /// Instead of a repository that this machine knows: a bundle, or a repository that was copied into a folder.
    /// No network, no server and no catalog is needed, and nothing is written there.
    #[arg(long, value_name = "FILE_OR_DIR")]
    pub(crate) bundle: Option<PathBuf>,
}

/// Verifies a repository that this machine knows.
pub(crate) async fn run(
    engine: &Engine,
    asked: Verify,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    let request = VerifyRequest {
        depth: asked.level.parse()?,
        sample: asked.sample.map(|sample| sample.parse()).transpose()?,
        snapshot: asked.snapshot.as_deref().map(parse_id).transpose()?,
        cluster: asked.name,
        leave_untouched: false,
    };
    Ok(verified(&engine.verify(request, cancel.clone()).await?, output))
}

/// Verifies what lies at `path`; the home is not opened.
pub(crate) async fn offline(
    arguments: &Arguments,
    asked: &Verify,
    path: PathBuf,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    let request = OfflineRequest {
        path,
        depth: asked.level.parse()?,
        sample: asked.sample.as_ref().map(|sample| sample.parse()).transpose()?,
        snapshot: asked.snapshot.as_deref().map(parse_id).transpose()?,
    };
    let given = secrets::given(arguments)?;
    let result = verify_offline(request, given, output.listener(), cancel.clone()).await?;
    Ok(verified(&result, output))
}

/// A verification that found damage printed its result; its exit code is that of an integrity error.
pub(crate) fn verified(result: &VerifyResult, output: Output) -> ExitCode {
    let code = output.result(result, text);
    result.as_error().map_or(code, |e| ExitCode::from(e.outcome().exit_code()))
}

fn text(v: &VerifyResult) -> String {
    let Checked { objects, files, pages, wal_segments, wal_records, .. } = v.checked;
    let part = v.sample.as_ref().map_or_else(String::new, |sample| format!(", part {sample}"));
    let mut text = format!(
        "{} ({}{part}): {objects} objects, {}, {wal_segments} WAL segments",
        if v.ok { "Verified" } else { "DAMAGED" },
        v.level,
        bytes(v.checked.bytes),
    );
    for (count, what) in [(files, "files"), (pages, "pages"), (wal_records, "WAL records")] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    if v.skipped.objects > 0 || v.skipped.files > 0 {
        let _ = write!(
            text,
            "\nNot looked at: {} objects ({}), {} files",
            v.skipped.objects,
            bytes(v.skipped.bytes),
            v.skipped.files
        );
    }
    for s in v.snapshots.iter().filter(|s| !s.ok) {
        let _ = write!(
            text,
            "\n  Snapshot {} of {} ({}) is not what it must be",
            s.id,
            s.cluster,
            time(s.finished_at)
        );
    }
    for f in &v.findings {
        let _ = write!(text, "\n  {:?}  {}: {}", f.severity, f.object, f.message);
    }
    let _ = write!(text, "\nThis does not show:");
    for what in &v.not_shown {
        let _ = write!(text, "\n  - {what}");
    }
    text
}
