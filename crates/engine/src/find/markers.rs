//! Markers of the timeline: what destroyed rows, out of the indexes beside the WAL, with names.
//!
//! The index knows relations by the numbers of their files. Their names are those of the nearest
//! snapshot: the newest before the transaction, else the oldest after it. What no snapshot knows stays
//! without a name; `holdfast find --xid` reads the WAL and knows more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, SegmentNo, TimelineId, WalStreamReader};
use holdfast_repository::{ObjectKind, Repository};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::names::Names;
use super::work::Ending;
use super::{EndedTransaction, FIRST_USER_OID, TableIdentity, expectations};
use crate::Engine;
use crate::archive::markers::MarkerGatherer;
use crate::archive::{
    ArchiveView, MarkedChange, MarkerKind, SegmentMarkers, StoredSegment, TransactionMarker,
};
use crate::cluster::Cluster;
use crate::error::Result;
use crate::points::SnapshotSummary;
use crate::snapshot::{self, Snapshot};
use crate::timeline::{Freshness, History};

/// The most transactions that one answer names.
const LIMIT_MAX: usize = 2000;
/// The most buckets an answer has.
const BUCKETS_MAX: usize = 2000;
/// At most so many snapshots' catalogs are read for one answer; the rest stays without names.
const SNAPSHOTS_MAX: usize = 4;
/// Catalogs of so many snapshots are kept in memory.
const NAMES_KEPT: usize = 8;
/// At most so many segments are read for one answer to find the markers of WAL without any.
const REBUILT_MAX: usize = 256;

/// Which markers.
#[derive(Debug, Clone, Default)]
pub struct MarkersRequest {
    /// The cluster.
    pub cluster: String,
    /// Committed at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Committed before this time.
    pub to: Option<DateTime<Utc>>,
    /// How many transactions are named; of more the gravest. At most 2000.
    pub limit: usize,
    /// Into how many equal spans of time all are counted; 0 for none. At most 2000.
    pub buckets: usize,
    /// Read WAL whose index has no markers, up to 256 segments, and remember what it says.
    pub rebuild: bool,
}

/// What one transaction destroyed in one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Marker {
    /// What.
    pub kind: MarkerKind,
    /// By which transaction.
    #[serde(flatten)]
    pub by: EndedTransaction,
    /// To which table, where a snapshot knows it.
    #[serde(flatten)]
    pub table: TableIdentity,
    /// How many relations this is: more than one only where their names are not known.
    pub relations: u32,
    /// Deleted rows.
    #[ts(type = "number | null")]
    pub rows: Option<u64>,
    /// Rows of a relation that was emptied or dropped, as PostgreSQL had last counted them.
    #[ts(type = "number | null")]
    pub rows_estimate: Option<u64>,
    /// Whether the transaction may have begun before the WAL that was read: the rows are a lower bound,
    /// and what is told as dropped may have been emptied.
    pub begun_before: bool,
}

/// Transactions of a span of time, by what they did; one that did several things counts for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct MarkerCounts {
    /// Deleted many rows.
    pub deletes: u32,
    /// Rewrote a relation.
    pub rewrites: u32,
    /// Emptied a relation.
    pub truncates: u32,
    /// Dropped a relation.
    pub drops: u32,
    /// Dropped a database.
    pub databases: u32,
}

impl MarkerCounts {
    fn add(&mut self, marker: &TransactionMarker) {
        let mut kinds: Vec<_> = marker.changes.iter().map(|c| c.kind).collect();
        kinds.sort();
        kinds.dedup();
        for kind in kinds {
            let count = match kind {
                MarkerKind::Delete => &mut self.deletes,
                MarkerKind::Rewrite => &mut self.rewrites,
                MarkerKind::Truncate => &mut self.truncates,
                MarkerKind::Drop => &mut self.drops,
                MarkerKind::DropDatabase => &mut self.databases,
            };
            *count = count.saturating_add(1);
        }
    }
}

/// WAL of which nobody knows what it destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct UnknownStretch {
    /// The timeline.
    pub timeline: u32,
    /// Its first byte.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// The first byte after it.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// When the first transaction in it ended.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// When the last transaction in it ended.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
}

/// What destroyed rows, for the timeline.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Markers {
    /// The cluster.
    pub cluster: String,
    /// In WAL order of their commits. Indexes and system catalogs are left out.
    pub markers: Vec<Marker>,
    /// How many transactions are not named because there are more than the limit.
    #[ts(type = "number")]
    pub omitted: u64,
    /// Start of the first bucket.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// End of the last.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
    /// Width of one; 0 without buckets.
    pub bucket_seconds: f64,
    /// All transactions of the range, named or not.
    pub buckets: Vec<MarkerCounts>,
    /// Where nothing is known, which is not the same as nothing.
    pub unknown: Vec<UnknownStretch>,
}

impl Engine {
    /// What destroyed rows: mass deletes, truncated, dropped and rewritten tables, dropped databases.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn markers(&self, request: &MarkersRequest, freshness: Freshness) -> Result<Markers> {
        let cluster = self.cluster(&request.cluster).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        if request.rebuild {
            let view = self.archive_view(&cluster).await?;
            self.rebuild_markers(&cluster, &repository, &view).await?;
        }
        // Outlines hold the markers and not the transactions: a long history is many of those.
        let history = self.history(&cluster, freshness).await?;
        let view = &history.view;
        let within = |time: DateTime<Utc>| {
            request.from.is_none_or(|f| time >= f) && request.to.is_none_or(|t| time < t)
        };
        let mut all: Vec<(TimelineId, &TransactionMarker)> = view
            .timelines()
            .flat_map(|timeline| marked(view, timeline).map(move |m| (timeline, m)))
            .filter(|(_, m)| within(m.time.to_chrono()))
            .collect();
        let from = request.from.or(all.iter().map(|(_, m)| m.time.to_chrono()).min());
        let to = request.to.or(all.iter().map(|(_, m)| m.time.to_chrono()).max());
        let (bucket_seconds, buckets) = counted(&all, from, to, request.buckets);
        let limit = request.limit.min(LIMIT_MAX);
        let omitted = all.len().saturating_sub(limit) as u64;
        if omitted > 0 {
            all.sort_by_key(|(_, m)| {
                std::cmp::Reverse(m.changes.first().map(|c| (c.kind, c.rows)))
            });
            all.truncate(limit);
            all.sort_by_key(|(timeline, m)| (*timeline, m.span.start));
        }
        let before = predecessors(view);
        let mut catalogs = Catalogs {
            engine: self,
            cluster: &cluster,
            repository: &repository,
            snapshots: &history.snapshots,
            read: 0,
        };
        let mut markers = Vec::new();
        for (timeline, marker) in all {
            let names = catalogs.near(timeline, marker.first).await?;
            markers.extend(named(timeline, marker, &names, &before));
        }
        let unknown = unknown(&history)
            .into_iter()
            .filter(|u| {
                let asked = request.from.is_some() || request.to.is_some();
                match (u.from, u.to) {
                    (Some(first), Some(last)) => {
                        request.from.is_none_or(|f| last >= f)
                            && request.to.is_none_or(|t| first < t)
                    }
                    _ => !asked,
                }
            })
            .collect();
        Ok(Markers {
            cluster: cluster.name,
            markers,
            omitted,
            from,
            to,
            bucket_seconds,
            buckets,
            unknown,
        })
    }

    /// Reads WAL whose index has no markers and remembers what it says.
    async fn rebuild_markers(
        &self,
        cluster: &Cluster,
        repository: &Repository,
        view: &ArchiveView,
    ) -> Result<()> {
        let size = cluster.segment_size;
        let mut rebuilt = Vec::new();
        'all: for timeline in view.timelines() {
            let mut state: Option<(SegmentNo, WalStreamReader, MarkerGatherer)> = None;
            for (number, stored) in view.segments(timeline) {
                let [piece] = stored.pieces.as_slice() else { continue };
                if !stored.complete || is_known(stored) {
                    continue;
                }
                if rebuilt.len() >= REBUILT_MAX {
                    break 'all;
                }
                let (mut reader, mut gatherer) = match state.take() {
                    Some((expected, reader, gatherer)) if expected == number => (reader, gatherer),
                    _ => (
                        WalStreamReader::at_segment(
                            size.start_of(number),
                            size,
                            expectations(cluster, timeline),
                        ),
                        MarkerGatherer::new(),
                    ),
                };
                let bytes = view.read_segment(repository, stored).await?;
                let mut records = Vec::new();
                if reader.push(&bytes, &mut records).is_err_and(|e| !e.is_end_of_wal()) {
                    continue;
                }
                let mut markers = SegmentMarkers::new();
                let major = cluster.server_version.major();
                let taken = records.iter().try_for_each(|record| {
                    markers.transactions.extend(gatherer.take(record, major)?);
                    Ok::<_, holdfast_postgres::WalReadError>(())
                });
                if taken.is_ok() {
                    let index = crate::archive::SegmentIndex {
                        markers: Some(markers),
                        ..piece.index.clone()
                    };
                    let text = serde_json::to_string(&index)
                        .map_err(|e| crate::EngineError::Fault(e.to_string()))?;
                    self.catalog().put_wal_metadata(repository.id(), &piece.path, &text).await?;
                    rebuilt.push(piece.path.clone());
                }
                state = Some((SegmentNo(number.0 + 1), reader, gatherer));
                tokio::task::yield_now().await;
            }
        }
        self.forget_outlines(cluster, repository, &rebuilt).await
    }

    /// The names a snapshot knows; kept in memory for the next question.
    async fn names_of(
        &self,
        cluster: &Cluster,
        repository: &Repository,
        id: &str,
    ) -> Result<Arc<Names>> {
        let mut kept = self.names().lock().await;
        if let Some((_, names)) = kept.iter().find(|(known, _)| known == id) {
            return Ok(Arc::clone(names));
        }
        let path = format!("{}{id}", snapshot::prefix(cluster.id));
        let snapshot: Snapshot =
            snapshot::cached_document(self.catalog(), repository, &path, ObjectKind::Snapshot)
                .await?;
        let mut names =
            Names::of_snapshot(repository, &snapshot, &CancellationToken::new()).await?;
        names.settle();
        let names = Arc::new(names);
        if kept.len() >= NAMES_KEPT {
            kept.remove(0);
        }
        kept.push((id.to_owned(), Arc::clone(&names)));
        Ok(names)
    }

    async fn has_names(&self, id: &str) -> bool {
        self.names().lock().await.iter().any(|(known, _)| known == id)
    }
}

/// The markers of a timeline in WAL order.
fn marked(
    view: &ArchiveView,
    timeline: TimelineId,
) -> impl Iterator<Item = &TransactionMarker> + '_ {
    view.segments(timeline).flat_map(|(_, segment)| {
        // Pieces may overlap by a record; records are told apart by where they start.
        let mut seen = None;
        segment
            .pieces
            .iter()
            .filter_map(|piece| piece.index.markers.as_ref())
            .filter(|markers| markers.is_known())
            .flat_map(|markers| &markers.transactions)
            .filter(|m| {
                let fresh = seen.is_none_or(|s| m.span.start > s);
                if fresh {
                    seen = Some(m.span.start);
                }
                fresh
            })
            .collect::<Vec<_>>()
    })
}

fn is_known(segment: &StoredSegment) -> bool {
    segment.pieces.iter().all(|p| p.index.markers.as_ref().is_some_and(SegmentMarkers::is_known))
}

/// Where no markers are known, adjoining segments as one.
fn unknown(history: &History) -> Vec<UnknownStretch> {
    let view = &history.view;
    let mut stretches: Vec<UnknownStretch> = Vec::new();
    for timeline in view.timelines() {
        for (_, segment) in view.segments(timeline).filter(|(_, segment)| !is_known(segment)) {
            let from_lsn = segment.pieces.first().map(|p| p.index.from).unwrap_or_default();
            let (first, last) = history.first_and_last_end(segment);
            match stretches.last_mut() {
                Some(s) if s.timeline == timeline.get() && s.to_lsn == from_lsn => {
                    s.to_lsn = segment.end();
                    s.from = s.from.or(first);
                    s.to = last.or(s.to);
                }
                _ => stretches.push(UnknownStretch {
                    timeline: timeline.get(),
                    from_lsn,
                    to_lsn: segment.end(),
                    from: first,
                    to: last,
                }),
            }
        }
    }
    stretches
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions on a drawing"
)]
fn counted(
    markers: &[(TimelineId, &TransactionMarker)],
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    buckets: usize,
) -> (f64, Vec<MarkerCounts>) {
    let (Some(from), Some(to)) = (from, to) else { return (0.0, Vec::new()) };
    let buckets = buckets.min(BUCKETS_MAX);
    if buckets == 0 {
        return (0.0, Vec::new());
    }
    let span = (to - from).num_microseconds().unwrap_or(i64::MAX).max(1) as f64;
    let mut counts = vec![MarkerCounts::default(); buckets];
    for (_, marker) in markers {
        let offset = (marker.time.to_chrono() - from).num_microseconds().unwrap_or(0).max(0) as f64;
        let bucket = ((offset / span * buckets as f64) as usize).min(buckets - 1);
        counts[bucket].add(marker);
    }
    (span / 1e6 / buckets as f64, counts)
}

/// The catalogs of the snapshots near a transaction.
struct Catalogs<'a> {
    engine: &'a Engine,
    cluster: &'a Cluster,
    repository: &'a Repository,
    /// Oldest first.
    snapshots: &'a [SnapshotSummary],
    read: usize,
}

impl Catalogs<'_> {
    /// The nearest first.
    async fn near(&mut self, timeline: TimelineId, at: Lsn) -> Result<Vec<Arc<Names>>> {
        let timeline = timeline.get();
        let before =
            self.snapshots.iter().rev().find(|s| s.start_lsn <= at && s.timeline <= timeline);
        let after = self.snapshots.iter().find(|s| s.start_lsn > at && s.timeline >= timeline);
        let mut found = Vec::new();
        for snapshot in before.into_iter().chain(after) {
            if !self.engine.has_names(&snapshot.id).await {
                if self.read >= SNAPSHOTS_MAX {
                    continue;
                }
                self.read += 1;
            }
            let names = self.engine.names_of(self.cluster, self.repository, &snapshot.id);
            found.push(names.await?);
        }
        Ok(found)
    }
}

/// What a change's relation is in a catalog.
enum Told {
    /// A table, by `schema.name`, its oid, its rows.
    Table(String, u32, Option<u64>),
    /// An index, a system catalog and the like: of no interest.
    Other,
}

/// Which files a relation had before the ones it got when it was emptied or rewritten: by the database
/// and the number of the later files.
type Predecessors = HashMap<(u32, u32), u32>;

/// So many files of one relation are gone back through.
const PREDECESSORS_MAX: usize = 100;

fn predecessors(view: &ArchiveView) -> Predecessors {
    view.timelines()
        .flat_map(|timeline| marked(view, timeline))
        .flat_map(|marker| &marker.changes)
        .filter_map(|c| Some(((c.database, c.successor?), c.relfilenode?)))
        .collect()
}

fn look_up(change: &MarkedChange, names: &Names, before: &Predecessors) -> Option<Told> {
    let at = Lsn(u64::MAX);
    let by_file = |file: Option<u32>| {
        let files = std::iter::successors(file, |f| before.get(&(change.database, *f)).copied());
        files.take(PREDECESSORS_MAX).find_map(|f| names.relation(change.database, f, at))
    };
    if change.relfilenode.is_some_and(|file| names.mapped(change.database, file).is_some()) {
        return Some(Told::Other);
    }
    let row = by_file(change.relfilenode)
        .or_else(|| by_file(change.successor))
        .or_else(|| names.by_oid(change.database, change.oid?, at))?;
    if !['r', 'm', 'p'].contains(&row.kind) || row.oid < FIRST_USER_OID {
        return Some(Told::Other);
    }
    Some(Told::Table(names.qualified(change.database, row, at), row.oid, row.rows))
}

/// A transaction's changes with names; those without are told together.
fn named(
    timeline: TimelineId,
    marker: &TransactionMarker,
    catalogs: &[Arc<Names>],
    before: &Predecessors,
) -> Vec<Marker> {
    let ending = Ending {
        xid: marker.xid,
        at: marker.span.start,
        time: marker.time,
        committed: true,
        timeline: timeline.get(),
    };
    let of = |change: &MarkedChange| Marker {
        kind: change.kind,
        by: EndedTransaction::new(ending, marker.first),
        table: TableIdentity {
            database: catalogs.iter().find_map(|n| n.database(change.database)).map(str::to_owned),
            database_oid: change.database,
            relation: None,
            oid: change.oid,
            relfilenode: change.relfilenode,
        },
        relations: 1,
        rows: change.rows,
        rows_estimate: None,
        begun_before: marker.begun_before,
    };
    let mut told: BTreeMap<(u32, u32, MarkerKind), Marker> = BTreeMap::new();
    let mut unnamed: BTreeMap<(u32, MarkerKind), Marker> = BTreeMap::new();
    let mut databases = Vec::new();
    for change in &marker.changes {
        if change.kind == MarkerKind::DropDatabase {
            databases.push(of(change));
            continue;
        }
        match catalogs.iter().find_map(|names| look_up(change, names, before)) {
            Some(Told::Other) => {}
            Some(Told::Table(relation, oid, rows)) => {
                let mut found = of(change);
                found.table.relation = Some(relation);
                found.table.oid = Some(oid);
                found.rows_estimate = rows.filter(|_| change.kind != MarkerKind::Delete);
                told.entry((change.database, oid, change.kind)).or_insert(found);
            }
            None => {
                unnamed
                    .entry((change.database, change.kind))
                    .and_modify(|marker| {
                        marker.relations += 1;
                        marker.rows = match (marker.rows, change.rows) {
                            (Some(a), Some(b)) => Some(a + b),
                            (a, b) => a.or(b),
                        };
                    })
                    .or_insert_with(|| of(change));
            }
        }
    }
    // An unknown file beside a known table is its index or its TOAST, or nobody knows: what is known of
    // the same kind is enough to be warned.
    unnamed.retain(|(database, kind), _| {
        !told.keys().any(|(known, _, of)| known == database && of == kind)
    });
    databases.into_iter().chain(told.into_values()).chain(unnamed.into_values()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use holdfast_postgres::{PgTimestamp, RecordSpan, Xid};

    fn marker(seconds: i64, kinds: &[MarkerKind]) -> TransactionMarker {
        let change = |kind: &MarkerKind| MarkedChange {
            kind: *kind,
            database: 5,
            relfilenode: Some(20_000),
            successor: None,
            oid: None,
            rows: None,
        };
        TransactionMarker {
            xid: Xid(7),
            first: Lsn(8),
            span: RecordSpan { start: Lsn(80), end: Lsn(96) },
            time: PgTimestamp(seconds * 1_000_000),
            begun_before: false,
            changes: kinds.iter().map(change).collect(),
            omitted: 0,
        }
    }

    #[test]
    fn transactions_are_counted_once_for_each_kind() {
        let timeline = TimelineId::FIRST;
        let both = marker(0, &[MarkerKind::Drop, MarkerKind::Drop, MarkerKind::Delete]);
        let late = marker(9, &[MarkerKind::DropDatabase]);
        let all = [(timeline, &both), (timeline, &late)];
        let from = both.time.to_chrono();
        let to = from + chrono::Duration::seconds(10);
        let (width, counts) = counted(&all, Some(from), Some(to), 5);
        assert!((width - 2.0).abs() < 1e-9);
        assert_eq!(counts[0], MarkerCounts { drops: 1, deletes: 1, ..MarkerCounts::default() });
        assert_eq!(counts[4], MarkerCounts { databases: 1, ..MarkerCounts::default() });
        assert_eq!(counts[1..4], [MarkerCounts::default(); 3]);
        assert_eq!(counted(&all, None, None, 5).1, []);
    }

    #[test]
    fn relations_without_a_name_are_told_together() {
        let marker = marker(0, &[MarkerKind::Drop, MarkerKind::Drop]);
        let told = named(TimelineId::FIRST, &marker, &[], &Predecessors::new());
        assert_eq!((told.len(), told[0].relations), (1, 2));
        assert_eq!(told[0].table.relation, None);
    }
}
