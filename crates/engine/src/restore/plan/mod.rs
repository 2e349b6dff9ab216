//! The plan of a restore: everything decided before a byte is written.

mod choose;
mod estimate;
mod loss;
mod prepare;
mod refusal;
mod steps;
mod stored;

use chrono::{DateTime, Utc};
use holdfast_postgres::Lsn;
use serde::{Deserialize, Serialize};

use super::request::RestoreRequest;
use crate::error::Result;
use crate::find::{LossBudget, LossChanges};
use crate::points::{Commit, SnapshotSummary};
use crate::server::binaries::ServerBinaries;
use crate::{Engine, Finding};

pub(super) use choose::wal_files;
pub use estimate::Estimate;
pub use loss::Loss;
pub(super) use loss::loss;
pub(crate) use prepare::{Prepared, Purpose};
pub(super) use refusal::refuse_minimal;
pub use steps::PlanStep;

/// How long a plan waits for the look at what it discards.
const LOSS_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// The immutable plan of a restore.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RestorePlan {
    /// BLAKE3 over everything that decides the result; execution refuses a plan whose inputs drifted.
    pub hash: String,
    /// The cluster.
    pub cluster: String,
    /// When it was made.
    #[ts(type = "string")]
    pub created_at: DateTime<Utc>,
    /// The target as it was asked for.
    pub target: String,
    /// Whether the target itself is left out.
    pub exclusive: bool,
    /// The timeline recovered along.
    pub timeline: u32,
    /// The snapshot it begins with.
    pub snapshot: SnapshotSummary,
    /// Where PostgreSQL will stop.
    pub predicted: ReachedPoint,
    /// The first transaction that is left out.
    pub stops_before: Option<Commit>,
    /// What is lost.
    pub loss: Loss,
    /// The new data directory.
    pub destination: String,
    /// Bytes of the snapshot's files.
    #[ts(type = "number")]
    pub bytes_fetch: u64,
    /// Bytes of WAL to replay.
    #[ts(type = "number")]
    pub bytes_wal: u64,
    /// Segments of WAL to replay.
    #[ts(type = "number")]
    pub wal_segments: u64,
    /// Disk space that is needed.
    #[ts(type = "number")]
    pub bytes_needed: u64,
    /// Disk space that is free there, when that is known.
    #[ts(type = "number | null")]
    pub bytes_free: Option<u64>,
    /// The server that will replay.
    pub server: Option<ServerBinaries>,
    /// What was looked at on this host.
    pub host_findings: Vec<Finding>,
    /// What will be done.
    pub steps: Vec<PlanStep>,
    /// The same restore as a command.
    pub command: String,
    /// How long it took on this machine before, scaled; none without history.
    pub estimate_seconds: Option<Estimate>,
}

/// Where recovery stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct ReachedPoint {
    /// The end of the last replayed record.
    #[ts(type = "string")]
    pub lsn: Lsn,
    /// The last replayed transaction; none when there is none after the snapshot's start.
    pub xid: Option<String>,
    /// Its commit time.
    #[ts(type = "string | null")]
    pub commit_time: Option<DateTime<Utc>>,
    /// The timeline it is on.
    pub timeline: u32,
}

impl Engine {
    /// Plans a restore; nothing is written but the plan itself, in the home directory.
    ///
    /// # Errors
    /// Refused when the target cannot be reached, naming the nearest that can; when the destination
    /// is not empty; when there is too little disk; when this host cannot run the copy.
    pub async fn plan_restore(&self, request: RestoreRequest) -> Result<RestorePlan> {
        let mut prepared = self.prepare(request, None, Purpose::Plan).await?;
        // A plan is worth having without it.
        let looked = self.loss_changes(&prepared, LossBudget::PLAN);
        prepared.plan.loss.changes = match tokio::time::timeout(LOSS_WAIT, looked).await {
            Ok(Ok(changes)) => Some(changes),
            Ok(Err(error)) => {
                tracing::warn!(%error, "what a restore discards could not be looked at");
                None
            }
            Err(_) => None,
        };
        self.keep_plan(&prepared)?;
        Ok(prepared.plan)
    }

    /// Looks at what a restore discards for longer than a plan does: [`LossBudget::ASKED`].
    ///
    /// # Errors
    /// As [`Engine::plan_restore`]; integrity when WAL cannot be read back.
    pub async fn restore_loss(&self, request: RestoreRequest) -> Result<LossChanges> {
        let prepared = self.prepare(request, None, Purpose::Plan).await?;
        self.loss_changes(&prepared, LossBudget::ASKED).await
    }
}
