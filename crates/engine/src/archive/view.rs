//! What the archive of a cluster holds, and what can be read from it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_postgres::{
    Lsn, RecordSpan, SegmentNo, ServerLimits, SystemIdentifier, TimelineHistory, TimelineId,
    WalFileName, WalSegmentSize,
};
use holdfast_repository::{ObjectKind, Repository, RepositoryError};

use super::index::{NamedPoint, SegmentIndex, TransactionEnd};
use super::ledger::{self, Gap, Retired, SystemChange};
use super::{
    coverage_prefix, history_prefix, segment_path, slice_directory, slices_prefix, wal_prefix,
};
use crate::catalog::Catalog;
use crate::error::{EngineError, Result};

/// `WAL_LEVEL_MINIMAL` of PostgreSQL's `xlog.h`, as WAL carries it.
const WAL_LEVEL_MINIMAL: u32 = 0;
/// Metadata is fetched with this many requests at a time.
const PARALLEL_READS: usize = 8;

/// The archive of one cluster, as listed at one moment.
#[derive(Debug)]
pub struct ArchiveView {
    /// PostgreSQL's identity of the cluster.
    pub system: SystemIdentifier,
    /// Bytes of one segment.
    pub segment_size: WalSegmentSize,
    /// Ancestries of timelines, where there is one.
    pub histories: BTreeMap<TimelineId, TimelineHistory>,
    /// Gaps that were recorded and are still there, bounded by what is archived.
    pub gaps: Vec<Gap>,
    /// Times at which another system answered in this one's place.
    pub changes: Vec<SystemChange>,
    /// WAL that was removed on purpose.
    pub retired: Vec<Retired>,
    timelines: BTreeMap<TimelineId, BTreeMap<SegmentNo, StoredSegment>>,
    /// Stretches without a hole on each timeline, in order.
    runs: BTreeMap<TimelineId, Vec<(Lsn, Lsn)>>,
}

/// One segment as the store has it: whole, a timeline's tail, or slices of it.
#[derive(Debug, Clone)]
pub struct StoredSegment {
    /// Its parts in order; each begins where the one before ends, or earlier.
    pub pieces: Vec<Piece>,
    /// Whether the segment is whole.
    pub complete: bool,
    /// Bytes it takes in the store.
    pub stored: u64,
}

/// One object that holds WAL.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Its path.
    pub path: String,
    /// Its kind.
    pub kind: ObjectKind,
    /// What is in it.
    pub index: SegmentIndex,
}

impl StoredSegment {
    /// First byte not held.
    pub fn end(&self) -> Lsn {
        self.pieces.iter().map(|p| p.index.to).max().unwrap_or_default()
    }
}

/// One timeline's part of the way to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// The timeline.
    pub timeline: TimelineId,
    /// Its first byte.
    pub from: Lsn,
    /// The first byte that belongs to the next one; none for the last.
    pub to: Option<Lsn>,
}

impl Leg {
    /// The way to `timeline` from its root; without a history it is a root itself.
    pub(super) fn along(history: Option<&TimelineHistory>, timeline: TimelineId) -> Vec<Self> {
        let mut legs = Vec::new();
        let mut from = Lsn::INVALID;
        for switch in history.into_iter().flat_map(|history| &history.switches) {
            legs.push(Self { timeline: switch.parent, from, to: Some(switch.switch_lsn) });
            from = switch.switch_lsn;
        }
        legs.push(Self { timeline, from, to: None });
        legs
    }
}

/// Something recovery can stop at.
#[derive(Debug, Clone, PartialEq)]
pub enum PointEvent {
    /// A transaction's end.
    Transaction(TimelineId, TransactionEnd),
    /// A named restore point.
    Point(TimelineId, NamedPoint),
}

impl PointEvent {
    /// Where its record is.
    pub fn span(&self) -> RecordSpan {
        match self {
            Self::Transaction(_, t) => t.span,
            Self::Point(_, p) => p.span,
        }
    }
}

impl ArchiveView {
    /// Lists the archive and reads the metadata that the catalog does not have yet.
    pub(crate) async fn load(
        catalog: &Catalog,
        repository: &Repository,
        system: SystemIdentifier,
        segment_size: WalSegmentSize,
    ) -> Result<Self> {
        let wal = wal_prefix(system);
        let slices = slices_prefix(system);
        let cached: std::collections::HashMap<_, _> =
            catalog.wal_metadata_under(repository.id(), &wal).await?.into_iter().collect();
        let mut objects = Vec::new();
        // Slices first: a segment sealed between the two lists is then found whole.
        for entry in repository.list(&slices).await? {
            objects.push((entry.path, entry.size, ObjectKind::WalSlice));
        }
        for entry in repository.list(&wal).await? {
            objects.push((entry.path, entry.size, ObjectKind::WalSegment));
        }
        let loaded: Vec<_> =
            futures_util::stream::iter(objects.into_iter().map(|(path, size, kind)| {
                let known = cached
                    .get(&path)
                    .and_then(|text| serde_json::from_str::<SegmentIndex>(text).ok());
                async move {
                    if let Some(index) = known {
                        return Ok(Some((Piece { path, kind, index }, size)));
                    }
                    let index: SegmentIndex = match repository
                        .get_sealed_metadata(&path, kind)
                        .await
                    {
                        Ok(index) => index,
                        // A slice may be superseded between the list and the read.
                        Err(RepositoryError::NotFound { .. }) if kind == ObjectKind::WalSlice => {
                            return Ok(None);
                        }
                        Err(e) => return Err(EngineError::from(e)),
                    };
                    if kind == ObjectKind::WalSegment {
                        let text = serde_json::to_string(&index).unwrap_or_default();
                        catalog.put_wal_metadata(repository.id(), &path, &text).await?;
                    }
                    Ok(Some((Piece { path, kind, index }, size)))
                }
            }))
            .buffered(PARALLEL_READS)
            .try_filter_map(|found| async move { Ok(found) })
            .try_collect()
            .await?;
        Self::with_pieces(catalog, repository, system, segment_size, loaded).await
    }

    /// The view of given pieces, with the ancestries and gaps that are in the repository now.
    pub(crate) async fn with_pieces(
        catalog: &Catalog,
        repository: &Repository,
        system: SystemIdentifier,
        segment_size: WalSegmentSize,
        pieces: Vec<(Piece, u64)>,
    ) -> Result<Self> {
        let mut view = Self::of_pieces(system, segment_size, pieces);
        view.histories = Self::histories(repository, system).await?;
        let mut recorded: Vec<Gap> = Vec::new();
        for entry in repository.list(&coverage_prefix(system)).await? {
            let kind = ObjectKind::Coverage;
            if ledger::is_change(&entry.path) {
                let change =
                    crate::snapshot::cached_document(catalog, repository, &entry.path, kind)
                        .await?;
                view.changes.push(change);
            } else if ledger::is_retired(&entry.path) {
                let retired: Vec<Retired> =
                    crate::snapshot::cached_document(catalog, repository, &entry.path, kind)
                        .await?;
                view.retired.extend(retired);
            } else {
                let gap = crate::snapshot::cached_document(catalog, repository, &entry.path, kind)
                    .await?;
                recorded.push(gap);
            }
        }
        view.gaps = ledger::settle(recorded, |timeline| view.runs(timeline).to_vec());
        Ok(view)
    }

    /// The view of given pieces alone.
    pub(crate) fn of_pieces(
        system: SystemIdentifier,
        segment_size: WalSegmentSize,
        pieces: Vec<(Piece, u64)>,
    ) -> Self {
        let mut view = Self {
            system,
            segment_size,
            histories: BTreeMap::new(),
            gaps: Vec::new(),
            changes: Vec::new(),
            retired: Vec::new(),
            timelines: BTreeMap::new(),
            runs: BTreeMap::new(),
        };
        for (piece, size) in pieces {
            view.add(piece, size);
        }
        view.arrange();
        view
    }

    /// One segment of one timeline, without a look at anything else; none when nothing of it is
    /// archived.
    pub(crate) async fn load_segment(
        repository: &Repository,
        system: SystemIdentifier,
        segment_size: WalSegmentSize,
        file: WalFileName,
    ) -> Result<Option<(Self, StoredSegment)>> {
        let whole = segment_path(system, file.timeline, file.segment, segment_size);
        let slices = slice_directory(system, file.timeline, file.segment, segment_size);
        let mut paths = Vec::new();
        for entry in repository.list(&slices).await? {
            paths.push((entry.path, ObjectKind::WalSlice));
        }
        // Behind the list: a segment sealed in between is then found whole.
        paths.push((format!("{whole}.partial"), ObjectKind::WalSegment));
        paths.push((whole, ObjectKind::WalSegment));
        let mut pieces = Vec::new();
        for (path, kind) in paths {
            match repository.get_sealed_metadata::<SegmentIndex>(&path, kind).await {
                Ok(index) => pieces.push((Piece { path, kind, index }, 0)),
                Err(RepositoryError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let view = Self::of_pieces(system, segment_size, pieces);
        let stored = view.segment(file.timeline, file.segment).cloned();
        Ok(stored.map(|stored| (view, stored)))
    }

    fn add(&mut self, piece: Piece, size: u64) {
        let segment = self
            .timelines
            .entry(piece.index.timeline)
            .or_default()
            .entry(piece.index.segment)
            .or_insert_with(|| StoredSegment { pieces: Vec::new(), complete: false, stored: 0 });
        segment.stored += size;
        segment.pieces.push(piece);
    }

    /// Keeps of each segment the pieces that cover it from its start without a hole.
    fn arrange(&mut self) {
        for (number, segment) in self.timelines.values_mut().flatten() {
            let start = self.segment_size.start_of(*number);
            let end = self.segment_size.end_of(*number);
            let mut pieces = std::mem::take(&mut segment.pieces);
            if let Some(whole) =
                pieces.iter().position(|p| p.index.from == start && p.index.to == end)
            {
                segment.pieces = vec![pieces.swap_remove(whole)];
                segment.complete = true;
                continue;
            }
            pieces.sort_by_key(|p| (p.index.from, std::cmp::Reverse(p.index.to)));
            let mut at = start;
            for piece in pieces {
                if piece.index.from <= at && piece.index.to > at {
                    at = piece.index.to;
                    segment.pieces.push(piece);
                }
            }
        }
        for segments in self.timelines.values_mut() {
            segments.retain(|_, s| !s.pieces.is_empty());
        }
        let size = self.segment_size;
        for (timeline, segments) in &self.timelines {
            let mut runs: Vec<(Lsn, Lsn)> = Vec::new();
            for (number, segment) in segments {
                let start = size.start_of(*number);
                match runs.last_mut() {
                    Some(run) if run.1 == start => run.1 = segment.end(),
                    _ => runs.push((start, segment.end())),
                }
            }
            self.runs.insert(*timeline, runs);
        }
    }

    /// The ancestries that are archived.
    pub(super) async fn histories(
        repository: &Repository,
        system: SystemIdentifier,
    ) -> Result<BTreeMap<TimelineId, TimelineHistory>> {
        let mut histories = BTreeMap::new();
        for entry in repository.list(&history_prefix(system)).await? {
            let Some(timeline) =
                entry.path.rsplit('/').next().and_then(TimelineHistory::parse_file_name)
            else {
                continue;
            };
            let (content, _): (Bytes, serde_json::Value) =
                repository.get_sealed(&entry.path, ObjectKind::TimelineHistory).await?;
            let history = TimelineHistory::parse(timeline, &content).map_err(|e| {
                EngineError::integrity(
                    "timeline_history_damaged",
                    format!("{} cannot be read: {e}", entry.path),
                    "Points on this timeline cannot be reached with it. Archive again from the server: it is fetched anew.",
                )
            })?;
            histories.insert(timeline, history);
        }
        Ok(histories)
    }

    /// The timelines that have WAL, in order of their numbers.
    pub fn timelines(&self) -> impl Iterator<Item = TimelineId> + '_ {
        self.timelines.keys().copied()
    }

    /// The newest timeline that has WAL or a history.
    pub fn newest_timeline(&self) -> Option<TimelineId> {
        self.timelines.keys().chain(self.histories.keys()).max().copied()
    }

    /// One segment of one timeline.
    pub fn segment(&self, timeline: TimelineId, segment: SegmentNo) -> Option<&StoredSegment> {
        self.timelines.get(&timeline)?.get(&segment)
    }

    /// The segments of a timeline in order.
    pub fn segments(
        &self,
        timeline: TimelineId,
    ) -> impl Iterator<Item = (SegmentNo, &StoredSegment)> + '_ {
        self.timelines.get(&timeline).into_iter().flatten().map(|(n, s)| (*n, s))
    }

    /// Stretches without a hole on one timeline, in order.
    pub fn runs(&self, timeline: TimelineId) -> &[(Lsn, Lsn)] {
        self.runs.get(&timeline).map_or(&[], Vec::as_slice)
    }

    /// How far the archive reaches without a hole on the newest timeline that has WAL.
    pub fn frontier(&self) -> Option<(TimelineId, Lsn)> {
        let timeline = *self.timelines.keys().next_back()?;
        Some((timeline, self.runs(timeline).last()?.1))
    }

    /// The way to `timeline` from its root.
    ///
    /// # Errors
    /// Refused when the ancestry of a timeline above 1 is not archived.
    pub fn path(&self, timeline: TimelineId) -> Result<Vec<Leg>> {
        let history = self.histories.get(&timeline);
        if history.is_none() && timeline != TimelineId::FIRST {
            return Err(EngineError::refused(
                "timeline_history_missing",
                format!("the ancestry of timeline {timeline} is not archived"),
                "Without its history file PostgreSQL would silently recover along another timeline. Run \
                 `holdfast archive` against a server of this timeline once: the file is fetched then.",
            ));
        }
        Ok(Leg::along(history, timeline))
    }

    /// Which timeline's file serves a segment on the way `legs`: as PostgreSQL asks, the newest
    /// timeline that had begun by its end.
    pub fn file_for(&self, legs: &[Leg], segment: SegmentNo) -> Option<WalFileName> {
        let start = self.segment_size.start_of(segment);
        let end = self.segment_size.end_of(segment);
        legs.iter()
            .rev()
            .filter(|leg| leg.from < end && leg.to.is_none_or(|to| to > start))
            .find(|leg| self.segment(leg.timeline, segment).is_some())
            .map(|leg| WalFileName { timeline: leg.timeline, segment })
    }

    /// Where the WAL begins that the files of a leg hold: the segment in which a timeline begins starts
    /// with its parent's bytes, and what its parent wrote last may be archived nowhere else.
    fn held_from(&self, leg: &Leg) -> Lsn {
        self.segment_size.floor(leg.from)
    }

    /// How far one can read without a hole from `from` along `legs`; `from` itself when not at all.
    pub fn reachable_from(&self, legs: &[Leg], from: Lsn) -> Lsn {
        let mut at = from;
        loop {
            let segment = self.segment_size.segment_of(at);
            let Some(file) = self.file_for(legs, segment) else { return at };
            let Some(stored) = self.segment(file.timeline, segment) else { return at };
            let leg_end = legs.iter().find(|l| l.timeline == file.timeline).and_then(|l| l.to);
            let end = leg_end.map_or(stored.end(), |to| stored.end().min(to));
            if end <= at {
                return at;
            }
            at = end;
            // An unfinished segment ends the way, unless the timeline ends in it.
            if at < self.segment_size.end_of(segment) && leg_end != Some(at) {
                return at;
            }
        }
    }

    /// Everything recovery can stop at along `legs` from `from` up to `to`, in WAL order.
    pub fn events<'a>(&'a self, legs: &'a [Leg], from: Lsn, to: Lsn) -> Vec<PointEvent> {
        let timeline_at = |at: Lsn, leg: &Leg| {
            legs.iter().rev().find(|l| l.from <= at).map_or(leg.timeline, |l| l.timeline)
        };
        let mut events = Vec::new();
        for leg in legs {
            let begin = self.held_from(leg).max(from);
            let end = leg.to.map_or(to, |t| t.min(to));
            if begin >= end {
                continue;
            }
            let first = self.segment_size.segment_of(begin);
            let last = self.segment_size.segment_of(Lsn(end.0.saturating_sub(1)));
            for (_, segment) in
                self.timelines.get(&leg.timeline).into_iter().flat_map(|s| s.range(first..=last))
            {
                // Pieces may overlap by a record; records are told apart by where they start.
                let mut seen = None;
                for piece in &segment.pieces {
                    let fresh = |span: &RecordSpan| {
                        span.start >= begin
                            && span.start < end
                            && seen.is_none_or(|s| span.start > s)
                    };
                    let mut found: Vec<_> = piece
                        .index
                        .transactions
                        .iter()
                        .filter(|t| fresh(&t.span))
                        .map(|t| PointEvent::Transaction(timeline_at(t.span.start, leg), *t))
                        .collect();
                    found.extend(
                        piece
                            .index
                            .points
                            .iter()
                            .filter(|p| fresh(&p.span))
                            .map(|p| PointEvent::Point(timeline_at(p.span.start, leg), p.clone())),
                    );
                    found.sort_by_key(|e| e.span().start);
                    seen = found.last().map(|e| e.span().start).or(seen);
                    events.append(&mut found);
                }
            }
        }
        // What a parent and its child both hold is one event.
        events.sort_by_key(|event| event.span().start);
        events.dedup_by_key(|event| event.span().start);
        events
    }

    /// The last whole record along `legs` in `[from, to)`.
    pub fn last_record(&self, legs: &[Leg], from: Lsn, to: Lsn) -> Option<RecordSpan> {
        let mut last = None;
        for leg in legs {
            let end = leg.to.map_or(to, |t| t.min(to));
            for (number, segment) in self.segments(leg.timeline) {
                if self.segment_size.end_of(number) <= from
                    || self.segment_size.start_of(number) >= end
                {
                    continue;
                }
                for piece in &segment.pieces {
                    if let Some(span) = piece.index.last_record
                        && span.start < end
                        && span.start >= from.max(self.held_from(leg))
                        && last.is_none_or(|l: RecordSpan| span.start > l.start)
                    {
                        last = Some(span);
                    }
                }
            }
        }
        last
    }

    /// The tablespaces at a path of their own that are made along `legs` in `[from, to)`: where each
    /// record starts, and the path.
    pub fn tablespaces_made(&self, legs: &[Leg], from: Lsn, to: Lsn) -> Vec<(Lsn, &str)> {
        let mut made: Vec<(Lsn, &str)> = Vec::new();
        for leg in legs {
            let begin = self.held_from(leg).max(from);
            let end = leg.to.map_or(to, |t| t.min(to));
            made.extend(
                self.segments(leg.timeline)
                    .flat_map(|(_, segment)| &segment.pieces)
                    .flat_map(|piece| &piece.index.tablespaces)
                    .filter(|(at, _)| *at >= begin && *at < end)
                    .map(|(at, path)| (*at, path.as_str())),
            );
        }
        // Pieces of a segment may overlap by a record.
        made.sort_unstable();
        made.dedup();
        made
    }

    /// Where the server began to write with `wal_level = minimal` along `legs` in `[from, to)`:
    /// PostgreSQL replays nothing behind it.
    pub fn minimal_since(&self, legs: &[Leg], from: Lsn, to: Lsn) -> Option<Lsn> {
        legs.iter()
            .flat_map(|leg| {
                let begin = self.held_from(leg).max(from);
                let end = leg.to.map_or(to, |t| t.min(to));
                self.segments(leg.timeline)
                    .flat_map(|(_, segment)| &segment.pieces)
                    .flat_map(|piece| &piece.index.limits)
                    .filter(move |(at, limits)| {
                        limits.wal_level == WAL_LEVEL_MINIMAL && *at >= begin && *at < end
                    })
                    .map(|(at, _)| *at)
            })
            .min()
    }

    /// The strictest settings a replaying server needs on the way.
    pub fn limits(&self, legs: &[Leg], from: Lsn, to: Lsn, base: ServerLimits) -> ServerLimits {
        let mut limits = base;
        for leg in legs {
            for (_, segment) in self.segments(leg.timeline) {
                for (at, change) in segment.pieces.iter().flat_map(|p| &p.index.limits) {
                    if *at >= from && *at < to {
                        limits.max_connections = limits.max_connections.max(change.max_connections);
                        limits.max_worker_processes =
                            limits.max_worker_processes.max(change.max_worker_processes);
                        limits.max_wal_senders = limits.max_wal_senders.max(change.max_wal_senders);
                        limits.max_prepared_xacts =
                            limits.max_prepared_xacts.max(change.max_prepared_xacts);
                        limits.max_locks_per_xact =
                            limits.max_locks_per_xact.max(change.max_locks_per_xact);
                    }
                }
            }
        }
        limits
    }

    /// The bytes of a segment: what is held, at its true length.
    pub(crate) async fn read_segment(
        &self,
        repository: &Repository,
        segment: &StoredSegment,
    ) -> Result<Bytes> {
        let Some(first) = segment.pieces.first() else { return Ok(Bytes::new()) };
        let start = self.segment_size.start_of(first.index.segment);
        if segment.pieces.len() == 1 {
            let (content, _): (Bytes, SegmentIndex) =
                repository.get_sealed(&first.path, first.kind).await?;
            return checked_length(content, first);
        }
        let mut bytes = BytesMut::new();
        for piece in &segment.pieces {
            let (content, _): (Bytes, SegmentIndex) =
                repository.get_sealed(&piece.path, piece.kind).await?;
            let content = checked_length(content, piece)?;
            let at = start.saturating_add(bytes.len() as u64);
            let overlap = usize::try_from(at.distance_from(piece.index.from)).unwrap_or(usize::MAX);
            bytes.extend_from_slice(content.get(overlap..).unwrap_or_default());
        }
        Ok(bytes.freeze())
    }
}

fn checked_length(content: Bytes, piece: &Piece) -> Result<Bytes> {
    if content.len() as u64 == piece.index.to.distance_from(piece.index.from) {
        return Ok(content);
    }
    Err(EngineError::integrity(
        "wal_length_differs",
        format!(
            "{} holds {} bytes of WAL, its index says {}",
            piece.path,
            content.len(),
            piece.index.to.distance_from(piece.index.from)
        ),
        "Points that need this WAL cannot be restored from this copy of the repository.",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use holdfast_postgres::{PgTimestamp, Xid};

    use super::super::TransactionKind;
    use super::*;

    const SEGMENT: u64 = 1 << 20;

    fn timeline(number: u32) -> TimelineId {
        TimelineId::new(number).unwrap()
    }

    /// A piece of segment 1 up to `to`, with commits of 40 bytes at these places; xid = place.
    fn piece(timeline: TimelineId, to: u64, commits: &[u32]) -> (Piece, u64) {
        let size = WalSegmentSize::new(SEGMENT).unwrap();
        let mut index = SegmentIndex::new(timeline, SegmentNo(1), size, Lsn(SEGMENT));
        index.to = Lsn(SEGMENT + to);
        for at in commits {
            let start = Lsn(SEGMENT + u64::from(*at));
            let span = RecordSpan { start, end: Lsn(start.0 + 40) };
            index.last_record = Some(span);
            index.transactions.push(TransactionEnd {
                kind: TransactionKind::Commit,
                span,
                xid: Xid(*at),
                time: PgTimestamp(0),
            });
        }
        (Piece { path: String::new(), kind: ObjectKind::WalSlice, index }, 0)
    }

    /// The old server is gone before the archive has its last WAL; the promoted one has it in its own
    /// first segment.
    #[test]
    fn what_only_a_childs_first_segment_holds_of_its_parent_is_seen() {
        let (parent, child) = (timeline(1), timeline(2));
        let switch = Lsn(SEGMENT + 400);
        let mut whole = piece(child, SEGMENT, &[100, 200, 400]);
        whole.0.index.tablespaces = vec![(Lsn(SEGMENT + 300), "/srv/space".to_owned())];
        let pieces = vec![piece(parent, 150, &[60, 100]), whole];
        let size = WalSegmentSize::new(SEGMENT).unwrap();
        let view = ArchiveView::of_pieces(SystemIdentifier(7), size, pieces);
        let legs = [
            Leg { timeline: parent, from: Lsn::INVALID, to: Some(switch) },
            Leg { timeline: child, from: switch, to: None },
        ];
        let start = Lsn(SEGMENT + 50);
        let reachable = view.reachable_from(&legs, start);
        assert_eq!(reachable, Lsn(2 * SEGMENT));
        let events = view.events(&legs, start, reachable);
        let seen: Vec<_> = events
            .iter()
            .map(|event| match event {
                PointEvent::Transaction(timeline, t) => (t.xid.0, timeline.get()),
                PointEvent::Point(..) => unreachable!("there is none"),
            })
            .collect();
        assert_eq!(seen, [(60, 1), (100, 1), (200, 1), (400, 2)]);
        assert_eq!(view.tablespaces_made(&legs, start, reachable).len(), 1);
        assert_eq!(view.last_record(&legs, start, reachable).unwrap().start, switch);
        // A way that stays on the parent sees what is archived of the parent only.
        let legs = [Leg { timeline: parent, from: Lsn::INVALID, to: None }];
        assert_eq!(view.events(&legs, start, Lsn(u64::MAX)).len(), 2);
    }
}
