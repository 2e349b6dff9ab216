//! The plan of a restore: everything decided before a byte is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use holdfast_postgres::{
    Lsn, RecordSpan, SegmentNo, TimelineHistory, TimelineId, WalExpectations, WalFileName,
    WalStreamReader,
};
use holdfast_repository::Repository;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::delta;
use super::host;
use super::in_place::{self, Placement};
use super::resolve::{self, Miss, Stop, StopRule, Way};
use super::tablespace::{self, Patch};
use crate::archive::{ArchiveView, Leg, PointEvent, TransactionEnd, TransactionKind};
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::find::{LossBudget, LossChanges};
use crate::points::{Commit, SnapshotSummary};
use crate::server::binaries::{self, ServerBinaries};
use crate::snapshot::{Proof, Snapshot};
use crate::target::Target;
use crate::{Engine, Finding, Severity};

/// How long a plan waits for the look at what it discards.
const LOSS_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
/// At most this many transactions are listed as left out by a stop by time.
const LEFT_OUT_LIMIT: usize = 20;
/// So many transaction ends before a snapshot's start are compared with a target time.
const ENDS_BEFORE_SNAPSHOT: usize = 1000;

/// What to restore, and to where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The cluster.
    pub cluster: String,
    /// Where to stop.
    pub target: Target,
    /// Whether the target itself is left out.
    pub exclusive: bool,
    /// Along which timeline.
    pub timeline: TimelineChoice,
    /// The new data directory.
    pub destination: PathBuf,
    /// A given snapshot; else the newest that can reach the target.
    pub snapshot: Option<Uuid>,
    /// Go on although this host differs from the source in ways that were named.
    pub accept_host_differences: bool,
    /// Whether the destination is new, or a data directory whose place or files the copy takes.
    pub placement: Placement,
    /// Directories of their own for tablespaces, by oid; all others are placed inside the copy.
    #[serde(default)]
    pub tablespaces: BTreeMap<u32, PathBuf>,
}

/// Along which timeline to recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TimelineChoice {
    /// The newest that continues the snapshot's.
    #[default]
    Latest,
    /// The snapshot's own.
    Current,
    /// This one.
    Numbered(TimelineId),
}

impl std::str::FromStr for TimelineChoice {
    type Err = EngineError;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "latest" => Ok(Self::Latest),
            "current" => Ok(Self::Current),
            number => number.parse().map(Self::Numbered).map_err(|_| {
                EngineError::usage(
                    format!("{number:?} is no timeline"),
                    "Use latest, current or a number.",
                )
            }),
        }
    }
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

/// What is lost by going back to a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Loss {
    /// Committed transactions after the point.
    #[ts(type = "number")]
    pub transactions: u64,
    /// Rolled-back transactions after the point.
    #[ts(type = "number")]
    pub aborted: u64,
    /// WAL after the point.
    #[ts(type = "number")]
    pub wal_bytes: u64,
    /// Commit time of the first of them.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// Commit time of the last of them.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
    /// The first of them.
    pub first: Option<Commit>,
    /// The last of them.
    pub last: Option<Commit>,
    /// For a stop by time: those whose commit time is not after the target and that are lost all
    /// the same, because they stand later in the WAL. At most 20.
    pub earlier_but_lost: Vec<Commit>,
    /// Table by table, as far as it was looked at; none when it was not.
    #[serde(default)]
    #[ts(optional = nullable)]
    pub changes: Option<LossChanges>,
}

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

/// A range of seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Estimate {
    /// At best.
    pub low: f64,
    /// At worst.
    pub high: f64,
}

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

/// A plan with what its execution needs.
pub(crate) struct Prepared {
    pub(crate) plan: RestorePlan,
    pub(crate) request: RestoreRequest,
    pub(crate) cluster: Cluster,
    pub(crate) repository: Repository,
    pub(crate) snapshot: Snapshot,
    pub(crate) view: Arc<ArchiveView>,
    pub(crate) legs: Vec<Leg>,
    pub(crate) stop: Stop,
    pub(crate) wal: Vec<WalFileName>,
    /// The transaction end whose time PostgreSQL will have noted last.
    pub(crate) last_noted_transaction: Option<TransactionEnd>,
    /// What is served otherwise than it is archived.
    pub(crate) patches: Vec<Patch>,
}

impl Prepared {
    /// Where replay ends.
    pub(crate) fn end(&self) -> Lsn {
        self.stop.end(self.snapshot.stop_lsn)
    }

    /// The LSN that "latest" was pinned to.
    pub(crate) fn pinned(&self) -> Option<Lsn> {
        self.stop.at.filter(|_| self.request.target == Target::Latest).map(|r| r.start)
    }

    pub(crate) fn timeline(&self) -> TimelineId {
        self.legs.last().map_or(self.snapshot.timeline, |l| l.timeline)
    }
}

/// What a preparation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be shown.
    Plan,
    /// To be run.
    Run,
    /// To go on: what stands at the destination is this restore's own.
    Resume,
}

/// A stored plan: what a later run must find again.
#[derive(Debug, Serialize, Deserialize)]
struct StoredPlan {
    target: String,
    exclusive: bool,
    destination: PathBuf,
    snapshot: Uuid,
    timeline: TimelineId,
    /// The LSN that "latest" was pinned to.
    pinned: Option<Lsn>,
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
        let stored = StoredPlan {
            target: prepared.plan.target.clone(),
            exclusive: prepared.plan.exclusive,
            destination: prepared.request.destination.clone(),
            snapshot: prepared.snapshot.id,
            timeline: prepared.timeline(),
            pinned: prepared.pinned(),
        };
        let directory = self.home().root().join("plans");
        std::fs::create_dir_all(&directory).map_err(EngineError::file("create", &directory))?;
        let path = directory.join(&prepared.plan.hash);
        let text = serde_json::to_vec(&stored).map_err(|e| EngineError::Fault(e.to_string()))?;
        std::fs::write(&path, text).map_err(EngineError::file("write", &path))?;
        Ok(prepared.plan)
    }

    /// Looks at all that a restore discards, however long it takes.
    ///
    /// # Errors
    /// As [`Engine::plan_restore`]; integrity when WAL cannot be read back.
    pub async fn restore_loss(&self, request: RestoreRequest) -> Result<LossChanges> {
        let prepared = self.prepare(request, None, Purpose::Plan).await?;
        self.loss_changes(&prepared, LossBudget::ASKED).await
    }

    /// Prepares the run of a plan that was shown before: every input is looked at again.
    pub(crate) async fn prepare_stored(
        &self,
        mut request: RestoreRequest,
        hash: &str,
    ) -> Result<Prepared> {
        let drift = |what: &str| {
            EngineError::refused(
                "plan_drifted",
                format!("the plan {hash} does not hold any more: {what}"),
                "Make a new plan with `holdfast restore plan`, look at it, and run that.",
            )
        };
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(EngineError::usage(
                "a plan's hash has 64 hexadecimal digits",
                "It is the plan's \"hash\".",
            ));
        }
        let path = self.home().root().join("plans").join(hash);
        let text = std::fs::read(&path).map_err(|_| drift("it was not made on this machine"))?;
        let stored: StoredPlan =
            serde_json::from_slice(&text).map_err(|_| drift("its record is damaged"))?;
        if stored.target != request.target.to_string()
            || stored.exclusive != request.exclusive
            || stored.destination != absolute(&request.destination)?
        {
            return Err(drift("target or destination is another"));
        }
        if request.snapshot.is_some_and(|id| id != stored.snapshot) {
            return Err(drift("it begins with another snapshot"));
        }
        if matches!(request.timeline, TimelineChoice::Numbered(t) if t != stored.timeline) {
            return Err(drift("it goes along another timeline"));
        }
        request.snapshot = Some(stored.snapshot);
        request.timeline = TimelineChoice::Numbered(stored.timeline);
        let prepared = match self.prepare(request, stored.pinned, Purpose::Run).await {
            Err(EngineError::NotFound { what: "snapshot", name }) => {
                return Err(drift(&format!("its snapshot {name} is gone")));
            }
            Err(EngineError::Refused { code, message, .. })
                if code.starts_with("target_")
                    || code.starts_with("timeline_")
                    || code.starts_with("wal_") =>
            {
                return Err(drift(&message));
            }
            other => other?,
        };
        if prepared.plan.hash != hash {
            return Err(drift(
                "the archive, the snapshot or the server is another than when it was made",
            ));
        }
        Ok(prepared)
    }

    /// Resolves, checks and collects everything; writes nothing.
    pub(crate) async fn prepare(
        &self,
        request: RestoreRequest,
        pinned: Option<Lsn>,
        purpose: Purpose,
    ) -> Result<Prepared> {
        if request.exclusive
            && matches!(request.target, Target::Latest | Target::Immediate | Target::Name(_))
        {
            return Err(EngineError::usage(
                format!("{} cannot be exclusive", request.target),
                "PostgreSQL leaves out a time, a transaction or an LSN; use one of those, or no --exclusive.",
            ));
        }
        let destination = absolute(&request.destination)?;
        let cluster = self.cluster(&request.cluster).await?;
        let (summary, repository) = self.repository_by_id(cluster.repository).await?;
        let system = cluster.system_identifier;
        match request.placement {
            _ if purpose == Purpose::Resume => {}
            Placement::New => check_destination(&destination)?,
            Placement::InPlace => in_place::check(&destination, system)?,
            Placement::Delta => {
                let apart = [self.home().root().to_path_buf(), repository_folder(&summary.url)];
                delta::check(&destination, system, &apart)?;
            }
        }
        let view = self.archive_view(&cluster).await?;
        let snapshots = self.snapshots(&cluster).await?;
        let chosen = choose(&repository, &view, &snapshots, &request, pinned).await?;
        let Chosen { snapshot, legs, stop, events, reachable } = chosen;
        let end = stop.end(snapshot.stop_lsn);
        refuse_minimal(&view, &legs, &snapshot, &events, end)?;
        let (last, next) = resolve::around(&events, end);
        let timeline = timeline_at(&legs, end);
        let predicted = ReachedPoint {
            lsn: end,
            xid: last.as_ref().map(|(_, t)| t.xid.to_string()),
            commit_time: last.as_ref().map(|(_, t)| t.time.to_chrono()),
            timeline: timeline.get(),
        };
        // The record before which it stops has to be read as well.
        let read_to = stop.at.map_or(end, |record| record.end.max(end));
        let wal = wal_files(&view, &legs, snapshot.start_lsn, read_to)?;
        let binaries =
            binaries::for_major(&self.server_binaries().await, snapshot.server_version.major());
        let host_findings = {
            let source = snapshot.source.clone();
            let version = snapshot.server_version;
            let binaries = binaries.clone();
            crate::server::private::blocking(move || {
                Ok(host::check(&source, version, binaries.as_ref()))
            })
            .await?
        };
        refuse_host(&host_findings, request.accept_host_differences)?;
        let tablespaces = request
            .tablespaces
            .iter()
            .map(|(oid, directory)| Ok((*oid, absolute(directory)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let ours = purpose == Purpose::Resume;
        tablespace::check(&tablespaces, &destination, &repository, &snapshot, ours).await?;
        let request = RestoreRequest { tablespaces, ..request };
        let patches =
            tablespace::patches(&repository, &view, &legs, &snapshot, read_to, binaries.as_ref())
                .await?;
        let segment = cluster.segment_size.bytes();
        // The fetched files, WAL that waits for replay, and what replay and promotion write.
        let standing = if request.placement == Placement::Delta || purpose == Purpose::Resume {
            let destination = destination.clone();
            crate::server::private::blocking(move || Ok(delta::bytes_in(&destination))).await?
        } else {
            0
        };
        let bytes_needed = snapshot.bytes_logical.saturating_sub(standing)
            + segment * (wal.len().min(16) as u64 + 8)
            + (64 << 20);
        let bytes_free = free_space(&destination);
        if let Some(free) = bytes_free
            && free < bytes_needed
        {
            return Err(EngineError::Refused {
                code: "too_little_disk",
                message: format!(
                    "the restore needs {} MiB and {} has {} MiB free",
                    bytes_needed >> 20,
                    destination.display(),
                    free >> 20
                ),
                hint: "Choose a destination with more space. Nothing was written.".to_owned(),
                details: json!({ "bytes_needed": bytes_needed, "bytes_free": free }),
            });
        }
        let proof =
            snapshots.iter().find(|(s, _)| s.id == snapshot.id).and_then(|(_, p)| p.clone());
        let loss = loss(&events, end, &view, &legs, reachable, &request.target);
        let last_noted_transaction = last_noted(&stop, &events, end);
        let hash =
            plan_hash(&cluster, &snapshot, &request, &destination, &stop, &wal, binaries.as_ref());
        let wal_bytes = end.distance_from(snapshot.start_lsn);
        let plan = RestorePlan {
            hash,
            cluster: cluster.name.clone(),
            created_at: Utc::now(),
            target: request.target.to_string(),
            exclusive: request.exclusive,
            timeline: legs.last().map_or(1, |l| l.timeline.get()),
            snapshot: SnapshotSummary::of(&snapshot, proof.as_ref(), &[]),
            predicted,
            stops_before: next.as_ref().map(Commit::of),
            loss,
            destination: destination.display().to_string(),
            bytes_fetch: snapshot.bytes_logical,
            bytes_wal: wal_bytes,
            wal_segments: wal.len() as u64,
            bytes_needed,
            bytes_free,
            server: binaries,
            host_findings,
            steps: steps(&snapshot, wal.len(), wal_bytes, &request),
            command: command(&request, &destination),
            estimate_seconds: if purpose == Purpose::Plan {
                self.estimate(&snapshot, wal_bytes).await
            } else {
                None
            },
        };
        Ok(Prepared {
            plan,
            request: RestoreRequest { destination, ..request },
            cluster,
            repository,
            snapshot,
            view: Arc::new(view),
            legs,
            stop,
            wal,
            last_noted_transaction,
            patches,
        })
    }

    /// A range from this machine's own restores, scaled by size; nothing without history.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    async fn estimate(&self, snapshot: &Snapshot, wal_bytes: u64) -> Option<Estimate> {
        let wanted = (snapshot.bytes_logical + wal_bytes) as f64;
        let mut times = Vec::new();
        for job in self
            .jobs()
            .await
            .ok()?
            .into_iter()
            .filter(|j| j.kind == crate::jobs::JobKind::Restore)
            .take(20)
        {
            let Ok((_, Some(result))) = self.job(job.id).await else { continue };
            let Ok(result) = serde_json::from_value::<super::RestoreResult>(result) else {
                continue;
            };
            let seconds: f64 = result.phases.iter().map(|p| p.seconds).sum();
            let bytes: u64 = result.phases.iter().filter_map(|p| p.bytes).sum();
            if bytes > 0 && seconds > 0.0 {
                times.push((seconds * wanted / bytes as f64).max(1.0));
            }
        }
        let low = times.iter().copied().reduce(f64::min)?;
        let high = times.iter().copied().reduce(f64::max)?;
        Some(Estimate { low: low * 0.8, high: high * 1.5 })
    }
}

struct Chosen {
    snapshot: Snapshot,
    legs: Vec<Leg>,
    stop: Stop,
    events: Vec<PointEvent>,
    reachable: Lsn,
}

/// Finds the newest snapshot that can reach the target.
async fn choose(
    repository: &Repository,
    view: &ArchiveView,
    snapshots: &[(Snapshot, Option<Proof>)],
    request: &RestoreRequest,
    pinned: Option<Lsn>,
) -> Result<Chosen> {
    if snapshots.is_empty() {
        return Err(EngineError::refused(
            "no_snapshot",
            format!("there is no backup of \"{}\" yet", request.cluster),
            format!("Take one: `holdfast backup {}`.", request.cluster),
        ));
    }
    if let Some(id) = request.snapshot
        && !snapshots.iter().any(|(s, _)| s.id == id)
    {
        return Err(EngineError::NotFound { what: "snapshot", name: id.to_string() });
    }
    let mut misses = Vec::new();
    for (snapshot, _) in
        snapshots.iter().rev().filter(|(s, _)| request.snapshot.is_none_or(|id| s.id == id))
    {
        let legs = match legs_for(view, snapshot, request.timeline) {
            Ok(legs) => legs,
            Err(error) => {
                misses.push((Reason::Timeline(error), snapshot, Lsn::INVALID, Vec::new()));
                continue;
            }
        };
        let reachable = view.reachable_from(&legs, snapshot.start_lsn);
        if reachable < snapshot.stop_lsn {
            misses.push((Reason::Gap, snapshot, reachable, Vec::new()));
            continue;
        }
        let events = view.events(&legs, snapshot.start_lsn, reachable);
        let wanted = match (&request.target, pinned) {
            (Target::Lsn(lsn), _) => Some(*lsn),
            _ => pinned,
        };
        let record = match wanted {
            Some(lsn) if lsn >= snapshot.start_lsn && lsn < reachable => {
                first_record_at(repository, view, &legs, lsn, reachable).await?
            }
            _ => None,
        };
        let way = Way {
            events: &events,
            start: snapshot.start_lsn,
            consistent: snapshot.stop_lsn,
            last_record: if pinned.is_some() {
                record
            } else {
                view.last_record(&legs, snapshot.start_lsn, reachable)
            },
            record,
        };
        let resolved =
            resolve::resolve(&request.target, request.exclusive, &way).and_then(|stop| match stop
                .rule
            {
                StopRule::Time(time) if is_past(view, &legs, snapshot, time, request.exclusive) => {
                    Err(Miss::TooEarly)
                }
                _ => Ok(stop),
            });
        match resolved {
            Ok(stop) => {
                return Ok(Chosen { snapshot: snapshot.clone(), legs, stop, events, reachable });
            }
            Err(miss) => {
                let definitive = miss == Miss::NotReached && misses.is_empty();
                misses.push((Reason::Miss(miss), snapshot, reachable, events));
                if definitive && !matches!(request.target, Target::Latest) {
                    break;
                }
            }
        }
    }
    Err(refusal(view, request, &misses))
}

/// Whether a snapshot holds more than what ended by `time`: such transactions are in its files, and
/// no replay takes them away again. The ends archived before its start show it; without any, this
/// machine's clock at the time of the backup must do.
fn is_past(
    view: &ArchiveView,
    legs: &[Leg],
    snapshot: &Snapshot,
    time: i64,
    exclusive: bool,
) -> bool {
    let size = view.segment_size;
    let mut end = snapshot.start_lsn;
    let mut seen = 0;
    // Ends stand in the WAL nearly in the order of their times: a few are enough.
    while seen < ENDS_BEFORE_SNAPSHOT && end > Lsn::INVALID {
        let segment = size.segment_of(Lsn(end.0 - 1));
        let stored = view.file_for(legs, segment).and_then(|f| view.segment(f.timeline, segment));
        // Beyond a gap anything may have happened.
        if stored.is_none_or(|stored| stored.end() < end) {
            break;
        }
        for event in view.events(legs, size.start_of(segment), end) {
            if let PointEvent::Transaction(_, t) = event {
                if t.time.0 > time || exclusive && t.time.0 == time {
                    return true;
                }
                seen += 1;
            }
        }
        end = size.start_of(segment);
    }
    seen == 0 && time < holdfast_postgres::PgTimestamp::from_chrono(snapshot.started_at).0
}

enum Reason {
    Timeline(EngineError),
    Gap,
    Miss(Miss),
}

/// Says why no snapshot reaches the target, and what is nearest.
fn refusal(
    view: &ArchiveView,
    request: &RestoreRequest,
    misses: &[(Reason, &Snapshot, Lsn, Vec<PointEvent>)],
) -> EngineError {
    let target = &request.target;
    let earliest = misses.last();
    let mut nearest = Vec::new();
    let mut windows = Vec::new();
    for (_, snapshot, reachable, events) in misses.iter().rev() {
        if *reachable < snapshot.stop_lsn {
            continue;
        }
        let transactions: Vec<_> = events
            .iter()
            .filter_map(|e| match e {
                PointEvent::Transaction(t, end) if end.span.start >= snapshot.stop_lsn => {
                    Some(Commit::transaction(*t, end))
                }
                _ => None,
            })
            .collect();
        windows.push(json!({
            "from_lsn": snapshot.stop_lsn, "to_lsn": reachable,
            "from": snapshot.finished_at, "to": transactions.last().map(|c| c.time),
        }));
        let mut offer = |commit: Option<&Commit>| {
            if let Some(c) = commit {
                let entry = json!({ "target": format!("xid:{}", c.xid), "lsn": c.lsn, "xid": c.xid, "time": c.time });
                if !nearest.contains(&entry) {
                    nearest.push(entry);
                }
            }
        };
        match target {
            Target::Time(time) => {
                offer(transactions.iter().rev().find(|c| c.time <= *time));
                offer(transactions.iter().find(|c| c.time > *time));
            }
            Target::Lsn(lsn) => {
                offer(transactions.iter().rev().find(|c| c.lsn <= *lsn));
                offer(transactions.iter().find(|c| c.lsn > *lsn));
            }
            _ => {
                offer(transactions.first());
                offer(transactions.last());
            }
        }
    }
    let details = json!({ "target": target.to_string(), "nearest": nearest, "windows": windows, "gaps": view.gaps });
    let name = nearest_sentence(&nearest);
    let refused = |code, message: String, hint: String| EngineError::Refused {
        code,
        message,
        hint,
        details: details.clone(),
    };
    let mut timeline_error = None;
    let mut too_early = false;
    let mut not_reached = None;
    let mut gap = None;
    for (index, (reason, snapshot, reachable, _)) in misses.iter().enumerate() {
        match reason {
            Reason::Timeline(error) => {
                timeline_error =
                    timeline_error.or(Some((error.to_string(), error.code().to_owned())))
            }
            Reason::Gap => gap = gap.or(Some((snapshot.id, *reachable))),
            Reason::Miss(Miss::TooEarly) => too_early = true,
            Reason::Miss(Miss::NotReached) => {
                not_reached = not_reached.or(Some((index, *reachable)))
            }
            Reason::Miss(Miss::NotFound) => {}
        }
    }
    if let Some((index, reachable)) = not_reached {
        let behind_gap = index > 0 && too_early;
        return if behind_gap {
            refused(
                "target_in_gap",
                format!(
                    "the target {target} lies in a gap: the WAL after {reachable} up to the next backup is not archived"
                ),
                format!(
                    "{name} What happened in the gap cannot be recovered from this repository."
                ),
            )
        } else {
            refused(
                "target_not_reached",
                format!("the archive ends at {reachable}, before the target {target} is reached"),
                format!(
                    "PostgreSQL stops at a time only when a later transaction follows. {name} For everything that is \
                     archived use `latest`."
                ),
            )
        };
    }
    if let (Some((message, code)), true) =
        (timeline_error, misses.iter().all(|(reason, ..)| matches!(reason, Reason::Timeline(_))))
    {
        let code = if code == "timeline_history_missing" {
            "timeline_history_missing"
        } else {
            "timeline_not_reachable"
        };
        return refused(
            code,
            message,
            "Choose another --timeline, or another --snapshot.".to_owned(),
        );
    }
    if too_early {
        let from = earliest
            .map(|(_, s, ..)| s.finished_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        return refused(
            "target_too_early",
            format!(
                "the target {target} lies before the oldest backup that could reach it is consistent"
            ),
            format!(
                "The oldest one is consistent at {}. {name}",
                from.unwrap_or_else(|| "(none)".to_owned())
            ),
        );
    }
    if let (Some((id, reachable)), true) =
        (gap, misses.iter().all(|(r, ..)| matches!(r, Reason::Gap)))
    {
        return refused(
            "wal_missing",
            format!("no backup has all the WAL it needs; that of {id} ends at {reachable}"),
            "Take a new backup now. If a copy of the repository is elsewhere, try that one."
                .to_owned(),
        );
    }
    let archived = archived_end(view, target);
    let consistent = earliest.map(|(_, s, ..)| s.stop_lsn);
    if let (Some(at), Some(consistent)) = (archived, consistent)
        && at < consistent
    {
        return refused(
            "target_too_early",
            format!(
                "the target {target} is archived at {at}, before the oldest backup is consistent at {consistent}"
            ),
            name,
        );
    }
    if let Some(at) = archived {
        return refused(
            "target_in_gap",
            format!(
                "the target {target} is archived at {at}, and no backup has all the WAL up to there on this timeline"
            ),
            format!("{name} Another --timeline may lead there."),
        );
    }
    let what = match target {
        Target::Xid(xid) => format!("no transaction {xid} ended in the archived WAL"),
        Target::Name(name) => format!("no restore point \"{name}\" is in the archived WAL"),
        other => format!("the target {other} cannot be reached"),
    };
    let note = if matches!(target, Target::Xid(_)) {
        "A transaction that wrote nothing, and a subtransaction, leave no end of their own in the WAL. "
    } else {
        ""
    };
    refused("target_not_found", what, format!("{note}{name}"))
}

/// Where a transaction or restore point that no snapshot reaches is archived all the same.
fn archived_end(view: &ArchiveView, target: &Target) -> Option<Lsn> {
    view.timelines().find_map(|timeline| {
        let leg = [Leg { timeline, from: Lsn::INVALID, to: None }];
        view.events(&leg, Lsn::INVALID, Lsn(u64::MAX)).into_iter().find_map(|event| {
            let hit = match (&event, target) {
                (PointEvent::Transaction(_, t), Target::Xid(xid)) => t.xid == *xid,
                (PointEvent::Point(_, p), Target::Name(name)) => p.name == *name,
                _ => false,
            };
            hit.then(|| event.span().start)
        })
    })
}

fn nearest_sentence(nearest: &[serde_json::Value]) -> String {
    let list: Vec<_> = nearest
        .iter()
        .map(|n| {
            format!(
                "{} ({})",
                n["target"].as_str().unwrap_or_default(),
                n["time"].as_str().unwrap_or_default()
            )
        })
        .collect();
    if list.is_empty() {
        "No transaction after a backup can be reached; `immediate` may.".to_owned()
    } else {
        format!("The nearest that can be reached: {}.", list.join(", "))
    }
}

/// The way from a snapshot along the chosen timeline.
fn legs_for(view: &ArchiveView, snapshot: &Snapshot, choice: TimelineChoice) -> Result<Vec<Leg>> {
    let passes = |legs: &[Leg]| {
        legs.iter().any(|l| {
            l.timeline == snapshot.timeline && l.to.is_none_or(|to| to >= snapshot.stop_lsn)
        })
    };
    let timeline = match choice {
        TimelineChoice::Current => snapshot.timeline,
        TimelineChoice::Numbered(timeline) => timeline,
        TimelineChoice::Latest => {
            let mut candidates: Vec<_> =
                view.histories.keys().copied().chain(view.timelines()).collect();
            candidates.sort();
            let mut newest = None;
            for candidate in candidates.into_iter().rev() {
                // Without its ancestry nobody knows whether a newer timeline is the latest: PostgreSQL would
                // silently stop at the end of the older one.
                let legs = if candidate > snapshot.timeline {
                    view.path(candidate)?
                } else {
                    view.path(candidate).unwrap_or_default()
                };
                if passes(&legs) {
                    newest = Some(candidate);
                    break;
                }
            }
            newest.unwrap_or(snapshot.timeline)
        }
    };
    let legs = view.path(timeline)?;
    if passes(&legs) {
        return Ok(legs);
    }
    Err(EngineError::refused(
        "timeline_not_reachable",
        format!(
            "timeline {timeline} does not continue timeline {} after the backup's end at {}",
            snapshot.timeline, snapshot.stop_lsn
        ),
        "Choose the timeline that does, or an older snapshot.",
    ))
}

fn timeline_at(legs: &[Leg], end: Lsn) -> TimelineId {
    let last = Lsn(end.0.saturating_sub(1));
    legs.iter()
        .find(|l| l.from <= last && l.to.is_none_or(|to| to > last))
        .or(legs.last())
        .map_or(TimelineId::FIRST, |l| l.timeline)
}

/// Reads the WAL around `lsn` for the first record that starts there or later.
async fn first_record_at(
    repository: &Repository,
    view: &ArchiveView,
    legs: &[Leg],
    lsn: Lsn,
    reachable: Lsn,
) -> Result<Option<RecordSpan>> {
    let size = view.segment_size;
    let wanted = size.segment_of(lsn);
    // One segment earlier, so that a record that crosses into the wanted one is recognised.
    let mut segment = SegmentNo(wanted.0.saturating_sub(1));
    if view.file_for(legs, segment).is_none() {
        segment = wanted;
    }
    let mut reader =
        WalStreamReader::at_segment(size.start_of(segment), size, WalExpectations::default());
    while size.start_of(segment) < reachable {
        let Some(stored) =
            view.file_for(legs, segment).and_then(|f| view.segment(f.timeline, segment))
        else {
            break;
        };
        let bytes = view.read_segment(repository, stored).await?;
        let mut records = Vec::new();
        // The end of what is archived is no error here.
        let read = reader.push(&bytes, &mut records);
        if let Some(found) = records.iter().find(|r| r.span.start >= lsn) {
            return Ok(Some(found.span));
        }
        if read.is_err() || (bytes.len() as u64) < size.bytes() {
            break;
        }
        segment = SegmentNo(segment.0 + 1);
    }
    Ok(None)
}

/// The files of WAL that replay will ask for, in order.
pub(super) fn wal_files(
    view: &ArchiveView,
    legs: &[Leg],
    start: Lsn,
    end: Lsn,
) -> Result<Vec<WalFileName>> {
    let size = view.segment_size;
    let last = size.segment_of(Lsn(end.0.saturating_sub(1)));
    let mut files = Vec::new();
    for number in size.segment_of(start).0..=last.0 {
        let segment = SegmentNo(number);
        let file = view.file_for(legs, segment).ok_or_else(|| {
            EngineError::refused(
                "wal_missing",
                format!("the WAL segment at {} is not archived", size.start_of(segment)),
                "Choose a target before it, or a snapshot after it.",
            )
        })?;
        files.push(file);
    }
    Ok(files)
}

/// The transaction end whose time PostgreSQL will have noted last. It stops after an LSN without
/// noting the time of the record at which it stops.
pub(super) fn last_noted(stop: &Stop, events: &[PointEvent], end: Lsn) -> Option<TransactionEnd> {
    let end = match (&stop.rule, stop.at) {
        (StopRule::Lsn(_), Some(record)) if !stop.before => record.start,
        _ => end,
    };
    resolve::around(events, end).0.map(|(_, t)| t)
}

pub(super) fn loss(
    events: &[PointEvent],
    end: Lsn,
    view: &ArchiveView,
    legs: &[Leg],
    reachable: Lsn,
    target: &Target,
) -> Loss {
    let mut loss = Loss {
        transactions: 0,
        aborted: 0,
        wal_bytes: reachable.distance_from(end),
        from: None,
        to: None,
        first: None,
        last: None,
        earlier_but_lost: Vec::new(),
        changes: None,
    };
    // What is archived beyond a gap is lost as well.
    let beyond = view.events(legs, reachable, Lsn(u64::MAX));
    for event in events.iter().chain(&beyond).filter(|e| e.span().start >= end) {
        let PointEvent::Transaction(timeline, t) = event else { continue };
        if t.kind == TransactionKind::Abort {
            loss.aborted += 1;
            continue;
        }
        let commit = Commit::transaction(*timeline, t);
        loss.transactions += 1;
        loss.from.get_or_insert(commit.time);
        loss.to = Some(commit.time);
        if let Target::Time(time) = target
            && commit.time <= *time
            && loss.earlier_but_lost.len() < LEFT_OUT_LIMIT
        {
            loss.earlier_but_lost.push(commit.clone());
        }
        loss.first.get_or_insert_with(|| commit.clone());
        loss.last = Some(commit);
    }
    loss
}

fn plan_hash(
    cluster: &Cluster,
    snapshot: &Snapshot,
    request: &RestoreRequest,
    destination: &Path,
    stop: &Stop,
    wal: &[WalFileName],
    binaries: Option<&ServerBinaries>,
) -> String {
    let names: Vec<_> = wal.iter().map(|f| f.render(cluster.segment_size)).collect();
    let inputs = json!([
        cluster.id,
        cluster.system_identifier,
        snapshot.id,
        snapshot.file_table.blake3,
        request.target.to_string(),
        request.exclusive,
        request.accept_host_differences,
        destination,
        request.placement,
        request.tablespaces,
        stop,
        names,
        binaries.map(|b| (&b.version, &b.bin_directory)),
    ]);
    blake3::hash(inputs.to_string().as_bytes()).to_hex().to_string()
}

fn steps(
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

fn command(request: &RestoreRequest, destination: &Path) -> String {
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

/// A destination that exists is taken where it really is: PostgreSQL looks at the owner of the
/// directory, not of a link to it.
fn absolute(path: &Path) -> Result<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Ok(real);
    }
    std::path::absolute(path).map_err(EngineError::file("resolve", path))
}

/// A restore writes into a directory that is absent or empty, never over anything.
fn check_destination(path: &Path) -> Result<()> {
    match std::fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Ok(());
            }
            Err(EngineError::refused(
                "destination_not_empty",
                format!("{} is not empty", path.display()),
                "Choose a directory that does not exist yet, or an empty one. Nothing was written.",
            ))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let existing = parent.ancestors().find(|p| p.exists());
            match existing {
                Some(p) if p.is_dir() => Ok(()),
                _ => Err(EngineError::refused(
                    "destination_unusable",
                    format!("{} cannot be created", path.display()),
                    "Choose a directory below one that exists.",
                )),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory && !path.exists() => {
            Err(EngineError::refused(
                "destination_unusable",
                format!("{} cannot be created: what is above it is a file", path.display()),
                "Choose a directory below one that exists.",
            ))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Err(EngineError::refused(
            "destination_not_empty",
            format!("{} is a file", path.display()),
            "Choose a directory that does not exist yet, or an empty one. Nothing was written.",
        )),
        Err(e) => Err(EngineError::file("read", path)(e)),
    }
}

fn refuse_host(findings: &[Finding], accepted: bool) -> Result<()> {
    let blocking: Vec<_> = findings
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .filter(|f| {
            !accepted
                || ["no_server_of_this_major", "other_architecture", "locale_missing"]
                    .contains(&f.code.as_str())
        })
        .collect();
    let Some(first) = blocking.first() else { return Ok(()) };
    Err(EngineError::Refused {
        code: "host_differs",
        message: format!(
            "this host cannot run the copy as it is: {}",
            blocking.iter().map(|f| f.message.as_str()).collect::<Vec<_>>().join("; ")
        ),
        hint: first.repair.clone().unwrap_or_default(),
        details: json!({ "findings": findings }),
    })
}

/// The folder of a repository; for any other store a path that is none.
fn repository_folder(url: &str) -> PathBuf {
    PathBuf::from(url.strip_prefix("file://").unwrap_or(url))
}

/// The minor version of installed binaries: 11 of "17.11".
pub(super) fn server_minor(binaries: &ServerBinaries) -> u32 {
    binaries.version.split('.').nth(1).and_then(|m| m.parse().ok()).unwrap_or(0)
}

/// A server with `wal_level = minimal` leaves out of the WAL what it can sync instead: PostgreSQL
/// refuses to replay past the place where it began.
pub(super) fn refuse_minimal(
    view: &ArchiveView,
    legs: &[Leg],
    snapshot: &Snapshot,
    events: &[PointEvent],
    end: Lsn,
) -> Result<()> {
    let Some(at) = view.minimal_since(legs, snapshot.start_lsn, end) else { return Ok(()) };
    let last = events.iter().rev().find_map(|event| match event {
        PointEvent::Transaction(timeline, t)
            if t.span.end <= at && t.span.start >= snapshot.stop_lsn =>
        {
            Some(Commit::transaction(*timeline, t))
        }
        _ => None,
    });
    let nearest: Vec<_> = last
        .iter()
        .map(|c| json!({ "target": format!("xid:{}", c.xid), "lsn": c.lsn, "xid": c.xid, "time": c.time }))
        .collect();
    Err(EngineError::Refused {
        code: "wal_level_minimal",
        message: format!(
            "from {at} on the server wrote with wal_level = minimal: that WAL does not hold everything, and \
             PostgreSQL does not replay it"
        ),
        hint: format!(
            "{} What came later can be restored from a backup that was taken later.",
            nearest_sentence(&nearest)
        ),
        details: json!({ "snapshot": snapshot.id, "lsn": at, "nearest": nearest }),
    })
}

/// Free bytes of the file system that will hold `path`.
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|p| p.exists())?;
    let facts = rustix::fs::statvfs(existing).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

/// Every archived history file with its content. A server that is promoted takes the first number
/// that has none: those of other branches must be seen, or its timeline would be taken for theirs.
pub(crate) async fn history_files(
    repository: &Repository,
    view: &ArchiveView,
) -> Result<Vec<(String, bytes::Bytes)>> {
    let mut files = Vec::new();
    for timeline in view.histories.keys() {
        let name = TimelineHistory::file_name(*timeline);
        let path = format!("{}{name}", crate::archive::history_prefix(view.system));
        let (content, _): (bytes::Bytes, serde_json::Value) =
            repository.get_sealed(&path, holdfast_repository::ObjectKind::TimelineHistory).await?;
        files.push((name, content));
    }
    Ok(files)
}
