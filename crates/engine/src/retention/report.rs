//! The plan as it is shown: every snapshot, and WAL as stretches of one fate.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, SegmentNo, SystemIdentifier, TimelineId, WalSegmentSize};
use serde::Serialize;
use uuid::Uuid;

use super::plan::{Decided, Decision, Fate, Lineage};
use super::policy::PolicyVersion;
use super::reason::Reason;
use crate::archive::StoredSegment;
use crate::cluster::Cluster;

/// What is kept of a cluster at a time, what is not, and why.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct RetentionPlan {
    /// The cluster.
    pub cluster: String,
    /// It, and what it was before upgrades: whose marks for removal are its own.
    #[serde(skip)]
    #[ts(skip)]
    pub(crate) clusters: BTreeSet<Uuid>,
    /// The time for which it is planned.
    #[ts(type = "string")]
    pub at: DateTime<Utc>,
    /// By which policy.
    pub policy: PolicyVersion,
    /// Every snapshot, by system identifier, start and LSN.
    pub snapshots: Vec<SnapshotFate>,
    /// All WAL, by system identifier, timeline and LSN; segments that follow each other and have one fate
    /// are one entry.
    pub wal: Vec<WalFate>,
    /// Timeline histories; all of them are kept, since they are small and whole timelines depend on them.
    #[ts(type = "number")]
    pub history_files: u64,
    /// How much it is.
    pub size: RetentionSize,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// How much is kept and how much is not. Snapshots share what they have in common: what one added may be
/// needed by others, so that letting go of it frees at most so much.
#[derive(Debug, Clone, Copy, Default, Serialize, ts_rs::TS)]
pub struct RetentionSize {
    /// Bytes that the kept snapshots added, and of kept WAL.
    #[ts(type = "number")]
    pub kept: u64,
    /// Bytes that the others added, and of other WAL.
    #[ts(type = "number")]
    pub dying: u64,
    /// The policy's cap; null when it has none.
    #[ts(type = "number | null")]
    pub cap: Option<u64>,
    /// Bytes by which what has to be kept exceeds the cap.
    #[ts(type = "number")]
    pub over_cap: u64,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct SnapshotFate {
    /// Its id.
    pub id: String,
    /// PostgreSQL's identity of the cluster it is of.
    #[ts(type = "string")]
    pub system_identifier: SystemIdentifier,
    /// Its timeline.
    #[ts(type = "number")]
    pub timeline: TimelineId,
    /// When the server began to send it.
    #[ts(type = "string")]
    pub started_at: DateTime<Utc>,
    /// Where replay begins.
    #[ts(type = "string")]
    pub start_lsn: Lsn,
    /// Where it is consistent.
    #[ts(type = "string")]
    pub stop_lsn: Lsn,
    /// Bytes it added to the repository.
    #[ts(type = "number")]
    pub bytes_added: u64,
    /// Whether it is kept.
    pub kept: bool,
    /// Why, or why not.
    #[ts(type = "Array<{ code: string; of: string | null; text: string }>")]
    pub reasons: Vec<Reason>,
}

/// What becomes of a stretch of WAL.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct WalFate {
    /// PostgreSQL's identity of the cluster it is of.
    #[ts(type = "string")]
    pub system_identifier: SystemIdentifier,
    /// Its timeline.
    #[ts(type = "number")]
    pub timeline: TimelineId,
    /// Its first byte.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// The first byte after it.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// The earliest end of a transaction in it; null when none ended.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// The latest.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
    /// How many segments it has, whole or not.
    #[ts(type = "number")]
    pub segments: u64,
    /// Bytes they take in the store.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Bytes of a whole segment.
    #[serde(skip)]
    #[ts(skip)]
    pub(crate) segment_size: WalSegmentSize,
    /// Whether it is kept.
    pub kept: bool,
    /// Why, or why not.
    #[ts(type = "Array<{ code: string; of: string | null; text: string }>")]
    pub reasons: Vec<Reason>,
}

/// A plan that is small however much is stored: sums, and the first of its lines.
#[derive(Debug, Clone, Serialize, ts_rs::TS)]
pub struct RetentionOutline {
    /// The plan, with at most as many snapshots and stretches of WAL as were asked for: those that are not kept
    /// first, and of each the newest first.
    pub plan: RetentionPlan,
    /// Everything that is kept.
    pub kept: FateTotals,
    /// Everything that is not.
    pub dying: FateTotals,
    /// What another policy or a later time would let go of that is kept now; null for the plan of now.
    pub lost: Option<FateTotals>,
}

/// How much has one fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ts_rs::TS)]
pub struct FateTotals {
    /// Snapshots.
    #[ts(type = "number")]
    pub snapshots: u64,
    /// WAL segments.
    #[ts(type = "number")]
    pub wal_segments: u64,
    /// When the oldest of the snapshots was begun; null without one.
    #[ts(type = "string | null")]
    pub oldest: Option<DateTime<Utc>>,
}

impl FateTotals {
    fn add(&mut self, snapshot: &SnapshotFate) {
        self.snapshots += 1;
        let oldest = self.oldest.map_or(snapshot.started_at, |at| at.min(snapshot.started_at));
        self.oldest = Some(oldest);
    }
}

impl RetentionOutline {
    /// Of a plan, compared with the one of `now` where that is another one.
    pub fn of(mut plan: RetentionPlan, now: Option<&RetentionPlan>, limit: usize) -> Self {
        let (mut kept, mut dying) = (FateTotals::default(), FateTotals::default());
        for snapshot in &plan.snapshots {
            if snapshot.kept { &mut kept } else { &mut dying }.add(snapshot);
        }
        for wal in &plan.wal {
            if wal.kept { &mut kept } else { &mut dying }.wal_segments += wal.segments;
        }
        let lost = now.map(|now| {
            let gone: HashSet<&str> =
                plan.snapshots.iter().filter(|s| !s.kept).map(|s| s.id.as_str()).collect();
            let mut lost = FateTotals::default();
            let kept_now = now.snapshots.iter().filter(|s| s.kept && gone.contains(s.id.as_str()));
            kept_now.for_each(|snapshot| lost.add(snapshot));
            let segments = |plan: &RetentionPlan| -> u64 {
                plan.wal.iter().filter(|wal| wal.kept).map(|wal| wal.segments).sum()
            };
            lost.wal_segments = segments(now).saturating_sub(segments(&plan));
            lost
        });
        plan.snapshots.sort_by_key(|s| (s.kept, Reverse(s.started_at)));
        plan.snapshots.truncate(limit);
        plan.wal.sort_by_key(|w| (w.kept, Reverse((w.timeline, w.from_lsn))));
        plan.wal.truncate(limit);
        Self { plan, kept, dying, lost }
    }
}

/// Puts what was decided into its order and adds it up.
pub(super) fn report(
    cluster: &Cluster,
    clusters: BTreeSet<Uuid>,
    policy: &PolicyVersion,
    at: DateTime<Utc>,
    lineages: &[Lineage<'_>],
    decision: Decision,
) -> RetentionPlan {
    let mut snapshots = Vec::new();
    let mut wal: Vec<WalFate> = Vec::new();
    for (lineage, decided) in lineages.iter().zip(decision.lineages) {
        let Decided { snapshots: fates, wal: segments } = decided;
        snapshots.extend(lineage.snapshots.iter().zip(fates).map(|(facts, fate)| SnapshotFate {
            id: facts.id.clone(),
            system_identifier: lineage.view.system,
            timeline: facts.span.timeline,
            started_at: facts.started_at,
            start_lsn: facts.span.start,
            stop_lsn: facts.span.stop,
            bytes_added: facts.bytes_added,
            kept: fate.kept,
            reasons: fate.reasons.into_iter().collect(),
        }));
        for ((timeline, number), fate) in segments {
            let next = segment(lineage, timeline, number, fate);
            match wal.last_mut().filter(|last| continues(last, &next)) {
                Some(last) => join(last, &next),
                None => wal.push(next),
            }
        }
    }
    snapshots.sort_by(|a, b| {
        (a.system_identifier, a.started_at, a.start_lsn, &a.id).cmp(&(
            b.system_identifier,
            b.started_at,
            b.start_lsn,
            &b.id,
        ))
    });
    wal.sort_by_key(|w| (w.system_identifier, w.timeline, w.from_lsn));
    let mut size = RetentionSize {
        cap: policy.policy.size_cap,
        over_cap: decision.over_cap,
        ..RetentionSize::default()
    };
    let bytes = snapshots.iter().map(|s| (s.kept, s.bytes_added));
    for (kept, bytes) in bytes.chain(wal.iter().map(|w| (w.kept, w.bytes))) {
        let sum = if kept { &mut size.kept } else { &mut size.dying };
        *sum = sum.saturating_add(bytes);
    }
    RetentionPlan {
        cluster: cluster.name.clone(),
        clusters,
        at,
        policy: policy.clone(),
        snapshots,
        wal,
        history_files: lineages.iter().map(|l| l.view.histories.len() as u64).sum(),
        size,
        warnings: decision.warnings,
    }
}

fn segment(lineage: &Lineage<'_>, timeline: TimelineId, number: SegmentNo, fate: Fate) -> WalFate {
    let stored = lineage.view.segment(timeline, number);
    let times = lineage.times.get(&(timeline, number));
    let from_lsn = lineage.view.segment_size.start_of(number);
    WalFate {
        system_identifier: lineage.view.system,
        timeline,
        from_lsn,
        to_lsn: stored.map_or(from_lsn, StoredSegment::end),
        from: times.map(|times| times.0),
        to: times.map(|times| times.1),
        segments: 1,
        bytes: stored.map_or(0, |stored| stored.stored),
        segment_size: lineage.view.segment_size,
        kept: fate.kept,
        reasons: fate.reasons.into_iter().collect(),
    }
}

fn continues(last: &WalFate, next: &WalFate) -> bool {
    last.system_identifier == next.system_identifier
        && last.timeline == next.timeline
        && last.to_lsn == next.from_lsn
        && last.kept == next.kept
        && last.reasons == next.reasons
}

fn join(last: &mut WalFate, next: &WalFate) {
    last.to_lsn = next.to_lsn;
    last.from = [last.from, next.from].into_iter().flatten().min();
    last.to = last.to.max(next.to);
    last.segments += 1;
    last.bytes = last.bytes.saturating_add(next.bytes);
}
