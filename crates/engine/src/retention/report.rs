//! The plan as it is shown: every snapshot, and WAL as stretches of one fate.

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, SegmentNo, SystemIdentifier, TimelineId, WalSegmentSize};
use serde::Serialize;

use super::plan::{Decided, Decision, Fate, Lineage};
use super::policy::PolicyVersion;
use super::reason::Reason;
use crate::archive::StoredSegment;
use crate::cluster::Cluster;

/// What is kept of a cluster at a time, what is not, and why.
#[derive(Debug, Clone, Serialize)]
pub struct RetentionPlan {
    /// The cluster.
    pub cluster: String,
    /// The time for which it is planned.
    pub at: DateTime<Utc>,
    /// By which policy.
    pub policy: PolicyVersion,
    /// Every snapshot, by system identifier, start and LSN.
    pub snapshots: Vec<SnapshotFate>,
    /// All WAL, by system identifier, timeline and LSN; segments that follow each other and have one fate
    /// are one entry.
    pub wal: Vec<WalFate>,
    /// Timeline histories; all of them are kept, since they are small and whole timelines depend on them.
    pub history_files: u64,
    /// How much it is.
    pub size: RetentionSize,
    /// What somebody should know.
    pub warnings: Vec<String>,
}

/// How much is kept and how much is not. Snapshots share what they have in common: what one added may be
/// needed by others, so that letting go of it frees at most so much.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct RetentionSize {
    /// Bytes that the kept snapshots added, and of kept WAL.
    pub kept: u64,
    /// Bytes that the others added, and of other WAL.
    pub dying: u64,
    /// The policy's cap; null when it has none.
    pub cap: Option<u64>,
    /// Bytes by which what has to be kept exceeds the cap.
    pub over_cap: u64,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct SnapshotFate {
    /// Its id.
    pub id: String,
    /// PostgreSQL's identity of the cluster it is of.
    pub system_identifier: SystemIdentifier,
    /// Its timeline.
    pub timeline: TimelineId,
    /// When the server began to send it.
    pub started_at: DateTime<Utc>,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where it is consistent.
    pub stop_lsn: Lsn,
    /// Bytes it added to the repository.
    pub bytes_added: u64,
    /// Whether it is kept.
    pub kept: bool,
    /// Why, or why not.
    pub reasons: Vec<Reason>,
}

/// What becomes of a stretch of WAL.
#[derive(Debug, Clone, Serialize)]
pub struct WalFate {
    /// PostgreSQL's identity of the cluster it is of.
    pub system_identifier: SystemIdentifier,
    /// Its timeline.
    pub timeline: TimelineId,
    /// Its first byte.
    pub from_lsn: Lsn,
    /// The first byte after it.
    pub to_lsn: Lsn,
    /// The earliest end of a transaction in it; null when none ended.
    pub from: Option<DateTime<Utc>>,
    /// The latest.
    pub to: Option<DateTime<Utc>>,
    /// How many segments it has, whole or not.
    pub segments: u64,
    /// Bytes they take in the store.
    pub bytes: u64,
    /// Bytes of a whole segment.
    #[serde(skip)]
    pub(crate) segment_size: WalSegmentSize,
    /// Whether it is kept.
    pub kept: bool,
    /// Why, or why not.
    pub reasons: Vec<Reason>,
}

/// Puts what was decided into its order and adds it up.
pub(super) fn report(
    cluster: &Cluster,
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
