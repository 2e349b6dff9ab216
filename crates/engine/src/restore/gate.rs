//! The gates of a restore that is paused at its target: step forward, promote.
//!
//! PostgreSQL that is paused at its target can only go on by ending recovery. A step therefore stops
//! the server and starts it again with a later target, which is the record of a commit in the archive's
//! index. Where it then stops is proven like the first stop. There is no step back: replay has no undo.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_postgres::{ControlFile, Lsn, TimelineId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::plan::{self, Prepared, ReachedPoint, RestorePlan};
use super::record::{RestoreRecord, require_running};
use super::replay::{self, Paused, Site};
use super::request::{AtTarget, RestoreRequest, TimelineChoice};
use super::resolve::{self, Stop, StopRule};
use super::result::RestoreResult;
use super::{prove, tablespace};
use crate::archive::{PointEvent, TransactionEnd, TransactionKind};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId};
use crate::points::Commit;
use crate::server::private::{PrivateServer, ServerLocation};
use crate::target::Target;
use crate::{Engine, Finding, Severity};

/// Where a restore is paused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Gate {
    /// The plan, with the target that was reached last.
    pub(super) plan: RestorePlan,
    /// The stop that was reached last.
    pub(super) stop: Stop,
}

/// A replayed copy, paused and proven to be where it must.
pub(super) struct Proven {
    pub(super) server: PrivateServer,
    pub(super) paused: Paused,
    pub(super) checks: Vec<Finding>,
}

/// The archive as it is now, seen from a paused copy.
struct Outlook {
    /// What a replay to the stop where it is paused needs.
    here: Prepared,
    /// Everything recovery can stop at.
    events: Vec<PointEvent>,
    /// How far the archive reaches without a hole.
    reachable: Lsn,
    /// Where the copy's server begins to replay when it is started.
    redo: Lsn,
}

impl Engine {
    /// Goes `commits` commits forward from where a restore is paused. The server is stopped and started
    /// again; where it stops is proven. When that fails or is cancelled, the copy goes back to where it
    /// was paused, as long as it has not been replayed past it.
    ///
    /// # Errors
    /// Refused when the copy is not paused, when a number of commits below one is asked for, and when
    /// the archive does not hold so many commits more.
    pub async fn step_restore(
        &self,
        job: JobId,
        commits: i64,
        cancel: CancellationToken,
    ) -> Result<RestoreResult> {
        let commits = forward_only(job, commits)?;
        let engine = self.clone();
        // A caller that goes away must not leave the copy between two stops.
        tokio::spawn(async move { engine.step(job, commits, cancel).await })
            .await
            .map_err(|e| EngineError::Fault(format!("the step failed: {e}")))?
    }

    async fn step(
        &self,
        job: JobId,
        commits: usize,
        cancel: CancellationToken,
    ) -> Result<RestoreResult> {
        let taken = self.take_up(job, cancel).await?;
        let jobs = self.home().jobs();
        let mut record = RestoreRecord::read(&jobs, job)?;
        let gate = record.gate.clone().ok_or_else(not_paused)?;
        let mut outlook = self.outlook(&record, &gate).await?;
        require_paused(&record, &outlook.here).await?;
        let mut next = step_forward(&outlook, commits).await?;
        record.moving = Some(Gate { plan: next.plan.clone(), stop: next.stop.clone() });
        record.write(&jobs, job)?;

        let site = record.site(self.run_as()?);
        let context = &taken.context;
        context.reporter.phase("stopping", None, None);
        let moved = async {
            context.check()?;
            record.location.halt(&site.run_as).await?;
            replay_again(context, &mut next, &outlook.events, &site).await
        }
        .await;
        let (prepared, proven, failure) = match moved {
            Ok(proven) => (next, proven, None),
            Err(error) => {
                context.reporter.warning(format!("the step failed: {}", error.to_object().message));
                // Whoever cancelled the step did not cancel the way back.
                let back = context.cancelled_by(CancellationToken::new());
                record.location.halt(&site.run_as).await?;
                match replay_again(&back, &mut outlook.here, &outlook.events, &site).await {
                    Ok(proven) => (outlook.here, proven, Some(error)),
                    Err(second) => {
                        context.reporter.warning(format!(
                            "the copy could not be brought back to where it was paused: {}",
                            second.to_object().message
                        ));
                        self.note_stopped(job).await?;
                        return Err(error);
                    }
                }
            }
        };
        let result = self.paused_at(job, record, prepared, proven).await?;
        if let Some(error) = failure {
            return Err(error);
        }
        taken.finished();
        Ok(result)
    }

    /// Records where a copy is paused now, and lets its server run on.
    async fn paused_at(
        &self,
        job: JobId,
        mut record: RestoreRecord,
        prepared: Prepared,
        proven: Proven,
    ) -> Result<RestoreResult> {
        let mut result = self.restore_result(job).await?;
        result.reached = prepared.plan.predicted.clone();
        result.reached.lsn = proven.paused.replayed;
        result.stopped_before.clone_from(&prepared.plan.stops_before);
        result.verified = proven.checks.iter().all(|c| c.severity < Severity::Error);
        result.checks.retain(|c| KEPT_CHECKS.contains(&c.code.as_str()));
        result.checks.extend(proven.checks);
        result.running = true;
        result.port = Some(record.location.port);
        result.dsn = Some(record.location.dsn("postgres"));
        record.gate = Some(Gate { plan: prepared.plan, stop: prepared.stop });
        record.moving = None;
        record.write(&self.home().jobs(), job)?;
        self.keep_restore_result(job, &result).await?;
        proven.server.let_go();
        Ok(result)
    }

    /// Brings a paused copy up again whose server does not run any more: where it was paused, or where
    /// an interrupted step was heading.
    pub(super) async fn reopen_gate(
        &self,
        job: JobId,
        cancel: CancellationToken,
    ) -> Result<RestoreResult> {
        let taken = self.take_up(job, cancel).await?;
        let record = RestoreRecord::read(&self.home().jobs(), job)?;
        let gate = record.moving.clone().or_else(|| record.gate.clone()).ok_or_else(not_paused)?;
        let site = record.site(self.run_as()?);
        record.location.halt(&site.run_as).await?;
        let Outlook { mut here, events, .. } = self.outlook(&record, &gate).await?;
        let proven = replay_again(&taken.context, &mut here, &events, &site).await?;
        let result = self.paused_at(job, record, here, proven).await?;
        taken.finished();
        Ok(result)
    }

    /// Looks at the archive from where a copy is paused.
    async fn outlook(&self, record: &RestoreRecord, gate: &Gate) -> Result<Outlook> {
        let plan = &gate.plan;
        let cluster = self.cluster(&plan.cluster).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let view = Arc::new(self.archive_view(&cluster).await?);
        let gone = || EngineError::NotFound { what: "snapshot", name: plan.snapshot.id.clone() };
        let id: Uuid = plan.snapshot.id.parse().map_err(|_| gone())?;
        let snapshots = self.snapshots(&cluster).await?;
        let (snapshot, _) = snapshots.into_iter().find(|(s, _)| s.id == id).ok_or_else(gone)?;
        let timeline = TimelineId::new(plan.timeline).unwrap_or(snapshot.timeline);
        let legs = view.path(timeline)?;
        let reachable = view.reachable_from(&legs, snapshot.start_lsn);
        let events = view.events(&legs, snapshot.start_lsn, reachable);
        let redo = redo_point(&record.location)?;
        let stop = gate.stop.clone();
        let read_to = stop.read_to(snapshot.stop_lsn);
        let wal = plan::wal_files(&view, &legs, redo, read_to)?;
        let here = Prepared {
            plan: plan.clone(),
            request: RestoreRequest {
                cluster: plan.cluster.clone(),
                target: plan.target.parse()?,
                exclusive: plan.exclusive,
                timeline: TimelineChoice::Numbered(timeline),
                destination: record.location.data_directory.clone(),
                snapshot: Some(id),
                // They were accepted when the copy was made.
                accept_host_differences: true,
                placement: record.placement,
                tablespaces: BTreeMap::new(),
            },
            // Known once the server is stopped.
            last_noted_transaction: None,
            patches: tablespace::patches(
                &repository,
                &view,
                &legs,
                &snapshot,
                read_to,
                plan.server.as_ref(),
            )
            .await?,
            cluster,
            repository,
            snapshot,
            view,
            legs,
            stop,
            wal,
        };
        Ok(Outlook { here, events, reachable, redo })
    }

    /// Promotes a restored server that is paused at its target.
    ///
    /// # Errors
    /// Not found, or refused when its server does not run.
    pub async fn promote_restore(&self, job: JobId) -> Result<RestoreResult> {
        let taken = self.take_up(job, CancellationToken::new()).await?;
        let jobs = self.home().jobs();
        let mut record = RestoreRecord::read(&jobs, job)?;
        require_running(&record.location)?;
        taken.context.reporter.phase("handing over", None, None);
        replay::promote(&record.location).await?;
        record.gate = None;
        record.write(&jobs, job)?;
        let mut result = self.restore_result(job).await?;
        result.at_target = AtTarget::Promote;
        self.keep_restore_result(job, &result).await?;
        taken.finished();
        Ok(result)
    }
}

/// What was checked of the files stays true whatever is replayed on them.
const KEPT_CHECKS: [&str; 3] =
    ["content_authenticated", "files_verified", "pg_verifybackup_missing"];

/// Replays to the stop of `prepared`, proves it, and looks into the databases.
pub(super) async fn replay_and_prove(
    context: &JobContext,
    prepared: &Prepared,
    site: &Site,
    first: Lsn,
) -> Result<Proven> {
    let (server, paused) = replay::to_stop(context, prepared, site, first).await?;
    context.reporter.phase("proving", None, None);
    let mut checks = prove::stop(prepared, &paused, &site.work.log());
    if checks.iter().any(|c| c.severity >= Severity::Error) {
        let _ = server.stop(&site.run_as).await;
        return Err(not_proven(&checks));
    }
    let major = prepared.snapshot.server_version.major();
    checks.extend(prove::databases(&site.location, major).await);
    Ok(Proven { server, paused, checks })
}

/// The same on a copy whose server ran before: its log begins anew, its socket's directory may be gone,
/// and it replays from the last restart point, which its end has moved.
async fn replay_again(
    context: &JobContext,
    prepared: &mut Prepared,
    events: &[PointEvent],
    site: &Site,
) -> Result<Proven> {
    let redo = redo_point(&site.location)?;
    prepared.last_noted_transaction =
        resolve::last_noted(&prepared.stop, events, redo, prepared.end());
    site.work.begin_log(&context.directory)?;
    site.run_as.private_directory(&site.location.socket_directory)?;
    replay_and_prove(context, prepared, site, redo).await
}

/// Where the server of a copy begins to replay when it is started.
fn redo_point(location: &ServerLocation) -> Result<Lsn> {
    let path = location.data_directory.join("global/pg_control");
    let bytes = std::fs::read(&path).map_err(EngineError::file("read", &path))?;
    let control = ControlFile::parse(&bytes).map_err(|error| {
        EngineError::integrity(
            "control_file_damaged",
            format!("{} cannot be read: {error}", path.display()),
            "The copy cannot be started. Discard it and restore again.",
        )
    })?;
    Ok(control.redo)
}

fn not_proven(checks: &[Finding]) -> EngineError {
    let failed: Vec<_> = checks
        .iter()
        .filter(|c| c.severity == Severity::Error)
        .map(|c| c.message.as_str())
        .collect();
    EngineError::Integrity {
        code: "stop_not_proven",
        message: format!("the copy did not stop where it must: {}", failed.join("; ")),
        hint: "It may hold more or less than was asked for, and was not handed over. Report this with the job's journal."
            .to_owned(),
        details: serde_json::json!({ "checks": checks }),
    }
}

fn not_paused() -> EngineError {
    EngineError::refused(
        "not_paused",
        "the copy is not paused at its target",
        "Only a restore with `--start --at-target pause` that was not promoted can step forward.",
    )
}

fn forward_only(job: JobId, commits: i64) -> Result<usize> {
    match usize::try_from(commits) {
        Ok(0) => Err(EngineError::usage(
            "a step of no commit is none",
            "Give the number of commits to go forward, from 1 on.",
        )),
        Ok(commits) => Ok(commits),
        Err(_) => Err(EngineError::refused(
            "step_backwards",
            "a copy cannot be taken back: replayed WAL has no undo",
            format!(
                "Restore again with the earlier target: `holdfast restore run` into another directory, or into this one \
                 after `holdfast restore discard {job}`."
            ),
        )),
    }
}

/// Refuses unless the copy is where this command left it.
async fn require_paused(record: &RestoreRecord, here: &Prepared) -> Result<()> {
    require_running(&record.location)?;
    let mut connection = record.location.connect("postgres").await?;
    let (recovering, paused, position) = replay::look(&mut connection).await?;
    connection.close().await;
    if !recovering || !paused {
        return Err(not_paused());
    }
    let found = prove::position(here, position.replayed);
    if found.severity < Severity::Error {
        return Ok(());
    }
    Err(EngineError::integrity(
        "copy_moved",
        format!("the copy is not where it was paused: {}", found.message),
        "Somebody has replayed it further. Discard it and restore again.",
    ))
}

/// The stop after the `commits`-th commit from here, with all that a replay to it needs.
async fn step_forward(outlook: &Outlook, commits: usize) -> Result<Prepared> {
    let here = &outlook.here;
    let ahead: Vec<(TimelineId, &TransactionEnd)> = outlook
        .events
        .iter()
        .filter_map(|event| match event {
            PointEvent::Transaction(timeline, t)
                if t.kind == TransactionKind::Commit && t.span.start >= here.end() =>
            {
                Some((*timeline, t))
            }
            _ => None,
        })
        .collect();
    let Some((timeline, commit)) = commits.checked_sub(1).and_then(|n| ahead.get(n)) else {
        return Err(archive_ends(outlook, ahead.len(), commits));
    };
    let first_of_xid = outlook.events.iter().find_map(|event| match event {
        PointEvent::Transaction(_, t) if t.xid == commit.xid => Some(t.span),
        _ => None,
    });
    // A stop by transaction also shows the time of the commit; an LSN serves where the number came twice.
    let (rule, target) = if first_of_xid == Some(commit.span) {
        (StopRule::Xid(commit.xid.0), Target::Xid(commit.xid))
    } else {
        (StopRule::Lsn(commit.span.start), Target::Lsn(commit.span.start))
    };
    let stop = Stop { rule, at: Some(commit.span), before: false, at_transaction: true };
    let end = commit.span.end;
    plan::refuse_minimal(&here.view, &here.legs, &here.snapshot, &outlook.events, end)?;
    let patches = tablespace::patches(
        &here.repository,
        &here.view,
        &here.legs,
        &here.snapshot,
        end,
        here.plan.server.as_ref(),
    )
    .await?;
    let (_, next) = resolve::around(&outlook.events, end);
    let wal = plan::wal_files(&here.view, &here.legs, outlook.redo, end)?;
    let mut plan = here.plan.clone();
    plan.target = target.to_string();
    plan.exclusive = false;
    plan.predicted = ReachedPoint {
        lsn: end,
        xid: Some(commit.xid.to_string()),
        commit_time: Some(commit.time.to_chrono()),
        timeline: timeline.get(),
    };
    plan.stops_before = next.as_ref().map(Commit::of);
    plan.loss =
        plan::loss(&outlook.events, end, &here.view, &here.legs, outlook.reachable, &target);
    Ok(Prepared {
        plan,
        request: RestoreRequest { target, exclusive: false, ..here.request.clone() },
        cluster: here.cluster.clone(),
        repository: here.repository.clone(),
        snapshot: here.snapshot.clone(),
        view: here.view.clone(),
        legs: here.legs.clone(),
        last_noted_transaction: None,
        stop,
        wal,
        patches,
    })
}

fn archive_ends(outlook: &Outlook, there: usize, wanted: usize) -> EngineError {
    let Outlook { here, reachable, .. } = outlook;
    let many = |n: usize| if n == 1 { "1 commit".to_owned() } else { format!("{n} commits") };
    let gap = here.view.gaps.iter().find(|gap| gap.from_lsn == *reachable);
    let why = match gap {
        Some(_) => format!("a gap in the archive begins at {reachable}"),
        None => format!("the archive ends at {reachable}"),
    };
    EngineError::Refused {
        code: "archive_ends",
        message: format!(
            "{} can be replayed after {}, not {wanted}: {why}",
            if there == 0 { "no commit".to_owned() } else { many(there) },
            here.end()
        ),
        hint: match (gap, there) {
            (_, 1..) => format!("Step {} at most. The copy stays paused where it is.", many(there)),
            (Some(_), 0) => {
                "What happened in the gap cannot be replayed. The copy stays paused where it is."
                    .to_owned()
            }
            (None, 0) => format!(
                "The copy stays paused where it is. When the server has written more, `holdfast archive {}` brings it here.",
                here.plan.cluster
            ),
        },
        details: json!({ "commits": there, "archived_to": reachable, "at": here.end() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn steps_go_forward_only() {
        let job = JobId(Uuid::nil());
        assert_eq!(forward_only(job, 3).unwrap(), 3);
        assert_eq!(forward_only(job, 0).unwrap_err().to_object().code, "usage");
        assert_eq!(forward_only(job, -1).unwrap_err().to_object().code, "step_backwards");
    }
}
