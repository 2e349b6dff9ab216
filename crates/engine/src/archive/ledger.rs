//! The gap ledger: which WAL of a cluster was lost before it could be archived, and why.
//!
//! Coverage itself is not written down: it is what the archive holds (`ArchiveView::runs`). A gap is a
//! document that says why nothing lies between two stretches of it. What is shown of a gap is bounded by
//! the stretches that are really there; one that was filled since is shown no more.

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, SystemIdentifier, TimelineId};
use holdfast_repository::{ObjectKind, Repository};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::{ArchiveView, Leg, coverage_prefix};
use crate::error::Result;
use crate::snapshot::Snapshot;

/// Why WAL is missing, or why an archive does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The server invalidated our slot (`max_slot_wal_keep_size`, `idle_replication_slot_timeout`).
    SlotLost,
    /// Our slot was gone, or another one of its name holds WAL from a later place on.
    SlotRecreated,
    /// We dropped the slot, because it held more WAL back than was allowed.
    SlotDropped,
    /// The slot was there, and the server had removed the WAL all the same.
    WalRemoved,
    /// The server is a newer major version under another system identifier.
    Upgrade,
    /// The server was initialised anew, or the address leads to another one.
    ReInit,
    /// The server writes other WAL than what is archived under the same name.
    ForeignStream,
    /// Recorded by a version with other causes.
    Other,
}

impl GapCause {
    /// The cause in words, to stand behind "because".
    pub fn describe(self) -> &'static str {
        match self {
            Self::SlotLost => "the server gave our replication slot up and removed its WAL",
            Self::SlotRecreated => {
                "our replication slot was dropped, and the server removed the WAL that it held"
            }
            Self::SlotDropped => {
                "our replication slot was dropped to spare the server's disk, and the WAL it held is gone"
            }
            Self::WalRemoved => "the server had removed this WAL",
            Self::Upgrade => "the server was upgraded and has another system identifier",
            Self::ReInit => "the server was initialised anew, or the address leads to another one",
            Self::ForeignStream => "another server writes the same timeline",
            Self::Other => "the cause was not recorded",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "slot_lost" => Self::SlotLost,
            "slot_recreated" => Self::SlotRecreated,
            "slot_dropped" => Self::SlotDropped,
            // Causes were sentences once, and this was the only one.
            "wal_removed" | "the server had removed this WAL" => Self::WalRemoved,
            "upgrade" => Self::Upgrade,
            "re_init" => Self::ReInit,
            "foreign_stream" => Self::ForeignStream,
            _ => Self::Other,
        }
    }
}

impl<'de> Deserialize<'de> for GapCause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

/// WAL that was lost before it could be archived. Bounded by what is really there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Gap {
    /// The end of what was archived before.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// The start of what is archived after; on a timeline that ended in the gap, its end.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// On which timeline.
    #[ts(type = "number")]
    pub timeline: TimelineId,
    /// Why.
    pub cause: GapCause,
    /// The same as a sentence.
    #[serde(default)]
    pub explanation: String,
    /// When it was noticed.
    #[ts(type = "string")]
    pub detected_at: DateTime<Utc>,
}

impl Gap {
    pub(crate) fn now(timeline: TimelineId, from: Lsn, to: Lsn, cause: GapCause) -> Self {
        Self {
            from_lsn: from,
            to_lsn: to,
            timeline,
            cause,
            explanation: cause.describe().to_owned(),
            detected_at: Utc::now(),
        }
    }
}

/// The archive of a system identifier ends here: what answers at the address now is something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct SystemChange {
    /// Where the archive ended; null when nothing was archived.
    #[ts(type = "string | null")]
    pub at_lsn: Option<Lsn>,
    /// On which timeline.
    #[ts(type = "number | null")]
    pub timeline: Option<TimelineId>,
    /// `upgrade`, `re_init` or `foreign_stream`.
    pub cause: GapCause,
    /// The system identifier that answers there now.
    pub found: String,
    /// Its server version.
    pub found_version: String,
    /// When it was noticed first.
    #[ts(type = "string")]
    pub detected_at: DateTime<Utc>,
}

/// Why a cluster needs a new snapshot now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct NeedsSnapshot {
    /// What is wrong.
    pub reason: NeedsSnapshotReason,
    /// The same as a sentence.
    pub message: String,
    /// The gap behind which nothing can be restored yet.
    pub gap: Option<Gap>,
}

/// What keeps the newest WAL from being restorable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum NeedsSnapshotReason {
    /// There is no backup.
    NoSnapshot,
    /// No backup has all the WAL that it needs itself.
    NoWholeSnapshot,
    /// A gap lies between the newest backup and the newest WAL.
    Gap,
    /// WAL between the newest backup and the newest WAL is missing, and no gap was recorded.
    MissingWal,
    /// The newest WAL is on a timeline that no backup leads to.
    Timeline,
}

/// Documents below this describe changes of the system, not gaps.
fn changes_prefix(system: SystemIdentifier) -> String {
    format!("{}changes/", coverage_prefix(system))
}

pub(super) fn is_change(path: &str) -> bool {
    path.contains("/changes/")
}

/// WAL that was removed because no rule, window or hold kept it any more. It is no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// On which timeline.
    pub timeline: TimelineId,
    /// Its first byte.
    pub from_lsn: Lsn,
    /// The first byte after it.
    pub to_lsn: Lsn,
    /// When it was removed.
    pub at: DateTime<Utc>,
}

/// Documents below this tell of WAL that was removed.
fn retired_prefix(system: SystemIdentifier) -> String {
    format!("{}retired/", coverage_prefix(system))
}

pub(super) fn is_retired(path: &str) -> bool {
    path.contains("/retired/")
}

/// Notes which WAL is removed, before it is.
pub(crate) async fn record_retired(
    repository: &Repository,
    system: SystemIdentifier,
    stretches: &[Retired],
) -> Result<()> {
    if stretches.is_empty() {
        return Ok(());
    }
    let path = format!("{}{}", retired_prefix(system), Uuid::now_v7());
    Ok(repository.put_document(&path, ObjectKind::Coverage, stretches).await?)
}

pub(super) async fn record(
    repository: &Repository,
    system: SystemIdentifier,
    gap: &Gap,
) -> Result<()> {
    let path = format!("{}{}", coverage_prefix(system), Uuid::now_v7());
    Ok(repository.put_document(&path, ObjectKind::Coverage, gap).await?)
}

/// Notes that another system answers in the place of `view`'s; once for each that was found there.
pub(crate) async fn record_change(
    repository: &Repository,
    view: &ArchiveView,
    cause: GapCause,
    found: String,
    found_version: String,
) -> Result<()> {
    if view.changes.iter().any(|c| c.found == found && c.cause == cause) {
        return Ok(());
    }
    let frontier = view.frontier();
    let change = SystemChange {
        at_lsn: frontier.map(|f| f.1),
        timeline: frontier.map(|f| f.0),
        cause,
        found,
        found_version,
        detected_at: Utc::now(),
    };
    let path = format!("{}{}", changes_prefix(view.system), Uuid::now_v7());
    Ok(repository.put_document(&path, ObjectKind::Coverage, &change).await?)
}

/// What is left of `pieces` without what `taken` covers.
pub(crate) fn without(mut pieces: Vec<(Lsn, Lsn)>, taken: &[(Lsn, Lsn)]) -> Vec<(Lsn, Lsn)> {
    for (from, to) in taken {
        pieces = pieces
            .into_iter()
            .flat_map(|(a, b)| [(a, b.min(*from)), (a.max(*to), b)])
            .filter(|(a, b)| a < b)
            .collect();
    }
    pieces
}

/// The recorded gaps as they are now: without what is archived, each stretch told once.
pub(super) fn settle(
    mut recorded: Vec<Gap>,
    runs: impl Fn(TimelineId) -> Vec<(Lsn, Lsn)>,
) -> Vec<Gap> {
    recorded.sort_by_key(|gap| (gap.detected_at, gap.timeline, gap.from_lsn));
    let mut settled: Vec<Gap> = Vec::new();
    for mut gap in recorded {
        if gap.explanation.is_empty() {
            gap.cause.describe().clone_into(&mut gap.explanation);
        }
        let told: Vec<_> = settled
            .iter()
            .filter(|s| s.timeline == gap.timeline)
            .map(|s| (s.from_lsn, s.to_lsn))
            .collect();
        let left = without(vec![(gap.from_lsn, gap.to_lsn)], &runs(gap.timeline));
        for (from_lsn, to_lsn) in without(left, &told) {
            settled.push(Gap { from_lsn, to_lsn, ..gap.clone() });
        }
    }
    settled.sort_by_key(|gap| (gap.timeline, gap.from_lsn));
    settled.dedup_by(|next, gap| {
        let one =
            next.timeline == gap.timeline && next.from_lsn == gap.to_lsn && next.cause == gap.cause;
        if one {
            gap.to_lsn = next.to_lsn;
        }
        one
    });
    settled
}

/// Where a snapshot's own WAL lies: replay begins at its start and is consistent at its stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotSpan {
    pub(crate) timeline: TimelineId,
    pub(crate) start: Lsn,
    pub(crate) stop: Lsn,
}

impl From<&Snapshot> for SnapshotSpan {
    fn from(snapshot: &Snapshot) -> Self {
        Self { timeline: snapshot.timeline, start: snapshot.start_lsn, stop: snapshot.stop_lsn }
    }
}

/// Whether a snapshot lies on the way.
pub(crate) fn is_on(legs: &[Leg], snapshot: SnapshotSpan) -> bool {
    legs.iter().any(|leg| {
        leg.timeline == snapshot.timeline
            && snapshot.start >= leg.from
            && leg.to.is_none_or(|to| snapshot.stop <= to)
    })
}

/// Whether all WAL from a snapshot's start to its consistency is archived.
pub(crate) fn wal_is_whole(view: &ArchiveView, snapshot: SnapshotSpan) -> bool {
    let runs = view.runs(snapshot.timeline);
    let after = runs.partition_point(|(from, _)| *from <= snapshot.start);
    after
        .checked_sub(1)
        .and_then(|last| runs.get(last))
        .is_some_and(|(_, to)| *to > snapshot.start && *to >= snapshot.stop)
}

/// Whether the newest archived WAL cannot be reached from any snapshot, and why.
pub(crate) fn needs_snapshot(
    view: &ArchiveView,
    snapshots: &[SnapshotSpan],
) -> Option<NeedsSnapshot> {
    let needs = |reason, message: String, gap| Some(NeedsSnapshot { reason, message, gap });
    if snapshots.is_empty() {
        let message = "there is no backup yet: WAL alone restores nothing".to_owned();
        return needs(NeedsSnapshotReason::NoSnapshot, message, None);
    }
    let whole: Vec<_> = snapshots.iter().copied().filter(|s| wal_is_whole(view, *s)).collect();
    if whole.is_empty() {
        let message = "no backup has all the WAL that it needs itself".to_owned();
        return needs(NeedsSnapshotReason::NoWholeSnapshot, message, None);
    }
    let (timeline, frontier) = view.frontier()?;
    let Ok(legs) = view.path(timeline) else {
        let message = format!(
            "the newest WAL is on timeline {timeline}, whose ancestry is not archived: no backup leads to it"
        );
        return needs(NeedsSnapshotReason::Timeline, message, None);
    };
    // None reaches farther than the last one to begin.
    let last = whole.into_iter().filter(|s| is_on(&legs, *s)).map(|s| s.start).max();
    let Some(reached) = last.map(|start| view.reachable_from(&legs, start)) else {
        let message = format!("no backup leads to timeline {timeline}, on which the newest WAL is");
        return needs(NeedsSnapshotReason::Timeline, message, None);
    };
    if reached >= frontier {
        return None;
    }
    let gap = view
        .gaps
        .iter()
        .filter(|g| g.to_lsn > reached && legs.iter().any(|l| l.timeline == g.timeline))
        .max_by_key(|g| (g.timeline, g.from_lsn));
    if let Some(gap) = gap {
        let message = format!(
            "WAL from {} to {} on timeline {} is lost ({}): nothing after it can be restored before there is a new backup",
            gap.from_lsn, gap.to_lsn, gap.timeline, gap.explanation
        );
        return needs(NeedsSnapshotReason::Gap, message, Some(gap.clone()));
    }
    let message = format!(
        "the newest backup leads to {reached}, the newest WAL ends at {frontier}: what lies between is missing"
    );
    needs(NeedsSnapshotReason::MissingWal, message, None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn gap(from: u64, to: u64, cause: GapCause) -> Gap {
        Gap::now(TimelineId::FIRST, Lsn(from), Lsn(to), cause)
    }

    fn spans(gaps: &[Gap]) -> Vec<(u64, u64)> {
        gaps.iter().map(|g| (g.from_lsn.0, g.to_lsn.0)).collect()
    }

    #[test]
    fn a_gap_is_bounded_by_what_is_there() {
        let runs = |_| vec![(Lsn(0), Lsn(100)), (Lsn(150), Lsn(160)), (Lsn(200), Lsn(300))];
        let settled = settle(vec![gap(90, 210, GapCause::SlotLost)], runs);
        assert_eq!(spans(&settled), [(100, 150), (160, 200)]);
        // Filled since: by archive_command, say.
        assert!(settle(vec![gap(10, 60, GapCause::SlotLost)], runs).is_empty());
    }

    #[test]
    fn a_gap_that_grew_before_it_ended_is_one() {
        let runs = |_| vec![(Lsn(0), Lsn(100)), (Lsn(300), Lsn(400))];
        let recorded =
            vec![gap(100, 200, GapCause::WalRemoved), gap(100, 300, GapCause::WalRemoved)];
        assert_eq!(spans(&settle(recorded, runs)), [(100, 300)]);
        let recorded = vec![gap(100, 200, GapCause::WalRemoved), gap(100, 300, GapCause::SlotLost)];
        let settled = settle(recorded, runs);
        assert_eq!(spans(&settled), [(100, 200), (200, 300)]);
        assert_eq!(settled[1].cause, GapCause::SlotLost);
    }

    #[test]
    fn causes_that_were_sentences_are_read() {
        let stored = r#"{"from_lsn":"0/10","to_lsn":"0/20","timeline":1,"cause":"the server had removed this WAL","detected_at":"2026-06-14T09:29:59Z"}"#;
        let gap: Gap = serde_json::from_str(stored).unwrap();
        assert_eq!(gap.cause, GapCause::WalRemoved);
        let settled = settle(vec![gap], |_| Vec::new());
        assert_eq!(settled[0].explanation, GapCause::WalRemoved.describe());
        let other: GapCause = serde_json::from_str("\"something newer\"").unwrap();
        assert_eq!(other, GapCause::Other);
    }

    proptest! {
        #[test]
        fn causes_round_trip(index in 0usize..8) {
            let all = [
                GapCause::SlotLost, GapCause::SlotRecreated, GapCause::SlotDropped,
                GapCause::WalRemoved, GapCause::Upgrade, GapCause::ReInit,
                GapCause::ForeignStream, GapCause::Other,
            ];
            let text = serde_json::to_string(&all[index]).unwrap();
            prop_assert_eq!(serde_json::from_str::<GapCause>(&text).unwrap(), all[index]);
        }

        /// No settled gap touches what is archived or another one, and nothing that was recorded and
        /// is not archived goes missing.
        #[test]
        fn settled_gaps_and_coverage_are_disjoint(
            recorded in prop::collection::vec((0u64..60, 1u64..30), 0..6),
            runs in prop::collection::vec((0u64..60, 1u64..20), 0..4),
        ) {
            let runs: Vec<_> = runs.iter().map(|(a, n)| (Lsn(*a), Lsn(a + n))).collect();
            let gaps: Vec<_> =
                recorded.iter().map(|(a, n)| gap(*a, a + n, GapCause::WalRemoved)).collect();
            let settled = settle(gaps.clone(), |_| runs.clone());
            for at in 0..100u64 {
                let within = |a: Lsn, b: Lsn| a.0 <= at && at < b.0;
                let archived = runs.iter().any(|(a, b)| within(*a, *b));
                let was = gaps.iter().any(|g| within(g.from_lsn, g.to_lsn));
                let times = settled.iter().filter(|g| within(g.from_lsn, g.to_lsn)).count();
                prop_assert_eq!(times, usize::from(was && !archived));
            }
        }
    }
}
