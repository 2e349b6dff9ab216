//! What a restore did, as its job keeps it.

use serde::{Deserialize, Serialize};

use super::configuration::SourceConfiguration;
use super::plan::{Prepared, ReachedPoint};
use super::replay::Paused;
use super::request::{AtTarget, RunOptions};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId};
use crate::points::Commit;
use crate::server::private::ServerLocation;
use crate::{Engine, Finding, PhaseTime, Severity};

/// What a restore did.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RestoreResult {
    /// The job.
    pub job: String,
    /// The plan that was run.
    pub plan_hash: String,
    /// The snapshot it began with.
    pub snapshot: String,
    /// Where recovery really stopped.
    pub reached: ReachedPoint,
    /// The first transaction that is not in the copy.
    pub stopped_before: Option<Commit>,
    /// How long each phase took.
    pub phases: Vec<PhaseTime>,
    /// The new data directory.
    pub data_directory: String,
    /// The private server's port on loopback, while it runs.
    pub port: Option<u16>,
    /// How to connect to it as superuser, while it runs.
    pub dsn: Option<String>,
    /// Whether every check passed. Never true for what was not checked.
    pub verified: bool,
    /// The checks.
    pub checks: Vec<Finding>,
    /// What was done at the target.
    pub at_target: AtTarget,
    /// Whether the private server runs.
    pub running: bool,
    /// Bytes of the files that stood at the destination already, by their content.
    #[serde(default)]
    #[ts(type = "number")]
    pub bytes_reused: u64,
    /// Bytes of the files that were written.
    #[serde(default)]
    #[ts(type = "number")]
    pub bytes_written: u64,
    /// The source's configuration, where it lay outside its data directory.
    #[serde(default)]
    pub configuration: Option<SourceConfiguration>,
}

impl Engine {
    /// Notes in a restore's result that its server does not run any more.
    pub(super) async fn note_stopped(&self, job: JobId) -> Result<()> {
        if let Ok(mut result) = self.restore_result(job).await {
            result.running = false;
            result.port = None;
            result.dsn = None;
            self.keep_restore_result(job, &result).await?;
        }
        Ok(())
    }

    pub(super) async fn keep_restore_result(
        &self,
        job: JobId,
        result: &RestoreResult,
    ) -> Result<()> {
        let value = serde_json::to_value(result).map_err(|e| EngineError::Fault(e.to_string()))?;
        self.catalog().set_job_result(job, &value).await
    }

    pub(super) async fn restore_result(&self, job: JobId) -> Result<RestoreResult> {
        let (_, result) = self.job(job).await?;
        result
            .and_then(|r| serde_json::from_value(r).ok())
            .ok_or_else(|| EngineError::NotFound { what: "restore", name: job.to_string() })
    }
}

/// The result of what was fetched, and replayed unless there was no replay.
pub(super) fn result(
    job: &JobContext,
    prepared: &Prepared,
    options: &RunOptions,
    checks: Vec<Finding>,
    replayed: Option<(&ServerLocation, &Paused)>,
    running: bool,
) -> RestoreResult {
    let shown = replayed.filter(|_| running).map(|(l, _)| l);
    RestoreResult {
        job: job.id.to_string(),
        plan_hash: prepared.plan.hash.clone(),
        snapshot: prepared.snapshot.id.to_string(),
        reached: ReachedPoint {
            lsn: replayed.map_or(prepared.snapshot.start_lsn, |(_, p)| p.replayed),
            ..if replayed.is_some() {
                prepared.plan.predicted.clone()
            } else {
                ReachedPoint {
                    lsn: prepared.snapshot.start_lsn,
                    xid: None,
                    commit_time: None,
                    timeline: prepared.snapshot.timeline.get(),
                }
            }
        },
        stopped_before: prepared.plan.stops_before.clone().filter(|_| replayed.is_some()),
        phases: job.reporter.phases(),
        data_directory: prepared.request.destination.display().to_string(),
        port: shown.map(|l| l.port),
        dsn: shown.map(|l| l.dsn("postgres")),
        verified: replayed.is_some() && checks.iter().all(|c| c.severity < Severity::Error),
        checks,
        at_target: options.at_target,
        running,
        bytes_reused: 0,
        bytes_written: 0,
        configuration: None,
    }
}
