//! A plan in words: its steps, and the command that does the same.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::restore::in_place::Placement;
use crate::restore::request::{RestoreRequest, TimelineChoice};
use crate::snapshot::Snapshot;

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct PlanStep {
    /// The phase under which progress is reported.
    pub phase: String,
    /// A short title.
    pub title: String,
    /// What it does, with its numbers.
    pub detail: String,
}

pub(super) fn steps(
    snapshot: &Snapshot,
    segments: usize,
    wal_bytes: u64,
    request: &RestoreRequest,
) -> Vec<PlanStep> {
    let step = |phase: &str, title: &str, detail: String| PlanStep {
        phase: phase.to_owned(),
        title: title.to_owned(),
        detail,
    };
    let mut steps = vec![
        step(
            "fetching",
            "Fetch the snapshot",
            format!(
                "{} files, {} MiB, every block authenticated as it is written{}",
                snapshot.files,
                snapshot.bytes_logical >> 20,
                match request.placement {
                    Placement::Delta =>
                        "; blocks that stand there already are compared by content and kept",
                    _ => "",
                }
            ),
        ),
        step(
            "checking files",
            "Check the fetched files",
            "pg_verifybackup against the server's own manifest".to_owned(),
        ),
        step(
            "replaying",
            "Replay WAL",
            format!(
                "{segments} segments, {} MiB, on a private server that nothing can reach",
                wal_bytes >> 20
            ),
        ),
        step(
            "proving",
            "Prove the stop",
            format!(
                "compare where PostgreSQL stopped with what {} means in the archive",
                request.target
            ),
        ),
        step("handing over", "Hand over", "promote, pause or shut down, as asked".to_owned()),
    ];
    if request.placement == Placement::InPlace {
        steps.push(step(
            "swapping",
            "Take its place",
            "the old directory is set aside beside it, until it is purged".to_owned(),
        ));
    }
    steps
}

/// The command that runs the same restore.
pub(super) fn command(request: &RestoreRequest, destination: &Path) -> String {
    let quote = |text: &str| {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._:-+=".contains(c)) {
            text.to_owned()
        } else {
            format!("'{}'", text.replace('\'', "'\\''"))
        }
    };
    let mut text = format!(
        "holdfast restore run {} --target {}",
        quote(&request.cluster),
        quote(&request.target.to_string())
    );
    if request.exclusive {
        text.push_str(" --exclusive");
    }
    match request.timeline {
        TimelineChoice::Latest => {}
        TimelineChoice::Current => text.push_str(" --timeline current"),
        TimelineChoice::Numbered(t) => text.push_str(&format!(" --timeline {t}")),
    }
    if let Some(id) = request.snapshot {
        text.push_str(&format!(" --snapshot {id}"));
    }
    text.push_str(&format!(" --to {}", quote(&destination.display().to_string())));
    text.push_str(match request.placement {
        Placement::New => " --start",
        Placement::InPlace => " --in-place",
        Placement::Delta => " --delta",
    });
    for (oid, directory) in &request.tablespaces {
        text.push_str(&format!(" --tablespace {oid}={}", quote(&directory.display().to_string())));
    }
    text
}
