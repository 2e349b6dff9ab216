//! The incident finder: what deleted, truncated, dropped or rewrote a table, when, in which
//! transaction, and how many rows, read out of the archived WAL.
//!
//! Names are those of the moment: the catalogs of the newest snapshot before the stretch that is
//! searched, carried on by what the WAL did to them.

mod loss;
mod markers;
pub(crate) mod names;
mod work;

use std::collections::BTreeMap;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use holdfast_postgres::heap::ClassRow;
use holdfast_postgres::{
    Lsn, PgTimestamp, SegmentNo, TimelineId, WalChange, WalExpectations, WalRecord,
    WalStreamReader, Xid, decode_change,
};
use holdfast_repository::Repository;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::archive::ledger::{SnapshotSpan, is_on, wal_is_whole};
use crate::archive::{ArchiveView, Gap, Leg, MANY_ROWS, PointEvent, StoredSegment};
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::snapshot::Snapshot;
pub use loss::{LossBudget, LossChanges, RelationLoss};
pub use markers::{Marker, MarkerCounts, Markers, MarkersRequest, UnknownStretch};
use names::Names;
use work::{Ending, OpenWork};

/// Segments fetched ahead of the one that is read.
const AHEAD: usize = 3;
/// The most events that one search gives.
const EVENTS_MAX: usize = 10_000;
/// Oids below belong to PostgreSQL itself (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16_384;

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct FindRequest {
    /// The cluster.
    pub cluster: String,
    /// Only this table: `name`, `schema.name` or `database.schema.name`, as it was called then.
    pub table: Option<String>,
    /// Only this transaction, whatever became of it.
    pub xid: Option<Xid>,
    /// Dropped tables and databases.
    pub drops: bool,
    /// Truncated tables.
    pub truncates: bool,
    /// Transactions that deleted many rows of a table.
    pub mass_deletes: bool,
    /// How many rows are many.
    pub rows: Option<u64>,
    /// Only what ended at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Only what ended at this time or earlier.
    pub to: Option<DateTime<Utc>>,
}

/// What happened to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum FoundKind {
    /// Mostly rows were inserted.
    Insert,
    /// Mostly rows were updated.
    Update,
    /// Mostly rows were deleted.
    Delete,
    /// It was emptied by `TRUNCATE`, or rewritten with nothing in it.
    Truncate,
    /// It was rewritten: `VACUUM FULL`, `CLUSTER`, some `ALTER TABLE`.
    Rewrite,
    /// It was dropped.
    Drop,
    /// A whole database was dropped.
    DropDatabase,
}

/// Rows that a transaction touched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct RowCounts {
    /// New rows.
    #[ts(type = "number")]
    pub inserted: u64,
    /// New versions of rows.
    #[ts(type = "number")]
    pub updated: u64,
    /// Rows that went.
    #[ts(type = "number")]
    pub deleted: u64,
}

impl RowCounts {
    fn add(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
    }
}

/// How the transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum FoundOutcome {
    /// It committed: what it did counts.
    Committed,
    /// It was rolled back: nothing of it counts.
    Aborted,
}

/// A table, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct TableIdentity {
    /// The database's name, where it is known.
    pub database: Option<String>,
    /// The database's oid.
    pub database_oid: u32,
    /// `schema.name` as it was called then; none where no catalog of the time is stored.
    pub relation: Option<String>,
    /// The table's oid, where it is known.
    pub oid: Option<u32>,
    /// The number of the table's files then; the first of them where several are told together.
    pub relfilenode: Option<u32>,
}

/// A transaction that has ended, and where it did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct EndedTransaction {
    /// The transaction.
    pub xid: String,
    /// The first record of it that touched the table.
    #[ts(type = "string")]
    pub lsn: Lsn,
    /// The record that ended the transaction.
    #[ts(type = "string")]
    pub commit_lsn: Lsn,
    /// When it ended.
    #[ts(type = "string")]
    pub commit_time: DateTime<Utc>,
    /// On which timeline.
    pub timeline: u32,
    /// The target that leaves this transaction out, with `--exclusive`.
    pub target: String,
}

impl EndedTransaction {
    fn new(ending: Ending, lsn: Lsn) -> Self {
        Self {
            xid: ending.xid.to_string(),
            lsn,
            commit_lsn: ending.at,
            commit_time: ending.time.to_chrono(),
            timeline: ending.timeline,
            target: format!("xid:{}", ending.xid),
        }
    }
}

/// What one transaction did to one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct FoundEvent {
    /// What.
    pub kind: FoundKind,
    /// By which transaction.
    #[serde(flatten)]
    pub by: EndedTransaction,
    /// How it ended.
    pub outcome: FoundOutcome,
    /// To which table.
    #[serde(flatten)]
    pub table: TableIdentity,
    /// How many rows were touched.
    pub rows: RowCounts,
    /// How many rows a dropped or truncated table had when PostgreSQL last counted.
    #[ts(type = "number | null")]
    pub rows_estimate: Option<u64>,
}

impl FoundEvent {
    fn new(kind: FoundKind, ending: Ending, at: Lsn, database: u32, names: &Names) -> Self {
        Self {
            kind,
            by: EndedTransaction::new(ending, at),
            outcome: if ending.committed { FoundOutcome::Committed } else { FoundOutcome::Aborted },
            table: TableIdentity {
                database: names.database(database).map(str::to_owned),
                database_oid: database,
                relation: None,
                oid: None,
                relfilenode: None,
            },
            rows: RowCounts::default(),
            rows_estimate: None,
        }
    }

    fn name_relation(&mut self, row: &ClassRow, names: &Names, at: Lsn) {
        self.table.relation = Some(names.qualified(self.table.database_oid, row, at));
        self.table.oid = Some(row.oid);
    }

    /// Whether `wanted` names its table.
    fn is_of(&self, wanted: &str) -> bool {
        let Some(relation) = &self.table.relation else { return false };
        let bare = relation.split_once('.').map_or(relation.as_str(), |(_, name)| name);
        let whole = self.table.database.as_ref().map(|d| format!("{d}.{relation}"));
        wanted == bare || wanted == relation || whole.as_deref() == Some(wanted)
    }
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Found {
    /// The cluster.
    pub cluster: String,
    /// The first byte of WAL that was read.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// The first byte that was not.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// In WAL order of their ends.
    pub events: Vec<FoundEvent>,
    /// There are more than are listed.
    pub truncated: bool,
    /// WAL that is missing in between: what happened there is not known.
    pub gaps: Vec<Gap>,
    /// Whether the names of the time are known.
    pub names_known: bool,
}

impl Engine {
    /// Searches the archived WAL for what happened to tables.
    ///
    /// # Errors
    /// Not found when the transaction that was asked for is not in the archive; integrity when WAL
    /// cannot be read back; usage when nothing was asked for.
    pub async fn find(&self, request: &FindRequest, cancel: &CancellationToken) -> Result<Found> {
        let anything = request.table.is_some()
            || request.xid.is_some()
            || request.drops
            || request.truncates
            || request.mass_deletes;
        if !anything {
            return Err(EngineError::usage(
                "say what to look for",
                "Use --table T, --xid X, --drops, --truncates or --mass-deletes.",
            ));
        }
        let cluster = self.cluster(&request.cluster).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let view = self.archive_view(&cluster).await?;
        let Some(timeline) = view.newest_timeline() else {
            return Err(EngineError::refused(
                "nothing_archived",
                format!("no WAL of \"{}\" is archived", cluster.name),
                format!("Start it with `holdfast archive {}`.", cluster.name),
            ));
        };
        let legs = view.path(timeline)?;
        let stretch = stretch(&view, &legs, request)?;
        let snapshot = self
            .snapshots(&cluster)
            .await?
            .into_iter()
            .map(|(snapshot, _)| snapshot)
            .filter(|s| {
                let span = SnapshotSpan::from(s);
                wal_is_whole(&view, span) && is_on(&legs, span)
            })
            .fold(None, |best: Option<Snapshot>, s| match &best {
                // The newest before the stretch; where there is none, the oldest after its start.
                Some(b) if s.stop_lsn > stretch.0 && b.start_lsn <= s.start_lsn => best,
                _ => Some(s),
            });
        let mut scan = Scan {
            names: Names::none(cluster.server_version.major(), 8192),
            open: OpenWork::default(),
            found: Found {
                cluster: cluster.name.clone(),
                from_lsn: stretch.0,
                to_lsn: stretch.0,
                events: Vec::new(),
                truncated: false,
                gaps: view
                    .gaps
                    .iter()
                    .filter(|g| g.from_lsn < stretch.1 && g.to_lsn > stretch.0)
                    .cloned()
                    .collect(),
                names_known: false,
            },
            request,
            seen: false,
        };
        let mut begin = stretch.0;
        if let Some(snapshot) = snapshot {
            scan.names = Names::of_snapshot(&repository, &snapshot, cancel).await?;
            scan.found.names_known = true;
            begin = begin.min(snapshot.start_lsn);
        }
        let reading = Reading {
            cluster: &cluster,
            repository: &repository,
            view: &view,
            legs: &legs,
            cancel,
            deadline: None,
        };
        let major = cluster.server_version.major();
        let reached = reading
            .read((begin, stretch.1), |record, timeline| scan.take(record, timeline, major))
            .await?;
        scan.found.to_lsn = scan.found.to_lsn.max(reached);
        if let (Some(xid), false) = (request.xid, scan.seen) {
            return Err(EngineError::NotFound { what: "transaction", name: xid.to_string() });
        }
        Ok(scan.found)
    }
}

/// The stretch of WAL in which everything ended that was asked for.
fn stretch(view: &ArchiveView, legs: &[Leg], request: &FindRequest) -> Result<(Lsn, Lsn)> {
    let events = view.events(legs, Lsn::INVALID, Lsn(u64::MAX));
    let begin = legs
        .iter()
        .filter_map(|leg| Some(view.runs(leg.timeline).first()?.0.max(leg.from)))
        .min()
        .unwrap_or_default();
    let wanted: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            PointEvent::Transaction(_, end) => Some(end),
            PointEvent::Point(..) => None,
        })
        .filter(|end| {
            let time = end.time.to_chrono();
            request.from.is_none_or(|from| time >= from)
                && request.to.is_none_or(|to| time <= to)
                && request.xid.is_none_or(|xid| end.xid == xid)
        })
        .collect();
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else {
        return match request.xid {
            Some(xid) => Err(EngineError::NotFound { what: "transaction", name: xid.to_string() }),
            None => Ok((begin, begin)),
        };
    };
    // A transaction may have begun long before it ended: without a start asked for, all is read.
    let from = if request.from.is_some() { first.span.start } else { begin };
    Ok((from, last.span.end))
}

/// Archived WAL that is read in order.
struct Reading<'a> {
    cluster: &'a Cluster,
    repository: &'a Repository,
    view: &'a ArchiveView,
    legs: &'a [Leg],
    cancel: &'a CancellationToken,
    /// No segment is begun after this.
    deadline: Option<Instant>,
}

impl Reading<'_> {
    /// Hands over every record that starts in `[from, to)`; gives the first byte that was not read.
    async fn read(
        &self,
        (from, to): (Lsn, Lsn),
        mut each: impl FnMut(&WalRecord, TimelineId) -> Result<()> + Send,
    ) -> Result<Lsn> {
        let size = self.cluster.segment_size;
        let mut reached = from;
        for leg in self.legs {
            let begin = leg.from.max(from);
            let end = leg.to.map_or(to, |t| t.min(to));
            if begin >= end {
                continue;
            }
            let first = size.segment_of(begin);
            let last = size.segment_of(Lsn(end.0 - 1));
            // Owned by each read: borrowed, the search could not move between threads.
            let (view, repository) = (self.view, self.repository);
            let segments: BTreeMap<SegmentNo, StoredSegment> = view
                .segments(leg.timeline)
                .filter(|(number, _)| (first..=last).contains(number))
                .map(|(number, stored)| (number, stored.clone()))
                .collect();
            let mut fetched = futures_util::stream::iter(segments)
                .map(|(number, stored)| async move {
                    let bytes = view.read_segment(repository, &stored).await?;
                    Ok::<_, EngineError>((number, bytes))
                })
                .buffered(AHEAD);
            let mut reader: Option<(SegmentNo, WalStreamReader)> = None;
            let mut records = Vec::new();
            while let Some(segment) = fetched.next().await {
                if self.cancel.is_cancelled() {
                    return Err(EngineError::Cancelled);
                }
                if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(reached);
                }
                let (number, bytes) = segment?;
                // Behind a hole reading begins anew.
                let mut current = match reader.take() {
                    Some((expected, reader)) if expected == number => reader,
                    _ => WalStreamReader::at_segment(
                        size.start_of(number),
                        size,
                        expectations(self.cluster, leg.timeline),
                    ),
                };
                match current.push(&bytes, &mut records) {
                    Ok(()) => {}
                    Err(error) if error.is_end_of_wal() => {}
                    Err(error) => {
                        return Err(EngineError::integrity(
                            "wal_damaged",
                            format!("archived WAL cannot be read: {error}"),
                            "Run `holdfast verify`: it names the object. What was found before this place is right, but \
                             not complete.",
                        ));
                    }
                }
                for record in records.drain(..) {
                    if record.span.start >= leg.from && record.span.start < end {
                        each(&record, leg.timeline)?;
                    }
                }
                reached = reached.max(size.end_of(number).min(end));
                reader = Some((SegmentNo(number.0 + 1), current));
                tokio::task::yield_now().await;
            }
        }
        Ok(reached)
    }
}

fn undecodable(record: &WalRecord, error: &holdfast_postgres::WalReadError) -> EngineError {
    EngineError::integrity(
        "wal_record_undecodable",
        format!("the WAL record at {} cannot be decoded: {error}", record.span.start),
        "What was found before this place is right, but not complete. Report it with the server's version.",
    )
}

/// Whether a relation is a temporary one, by the name of its schema.
fn is_temporary(relation: &str) -> bool {
    relation.starts_with("pg_temp_") || relation.starts_with("pg_toast_temp_")
}

/// A search under way.
struct Scan<'a> {
    names: Names,
    open: OpenWork,
    found: Found,
    request: &'a FindRequest,
    /// Whether the transaction that was asked for has come by.
    seen: bool,
}

impl Scan<'_> {
    fn take(&mut self, record: &WalRecord, timeline: TimelineId, major: u32) -> Result<()> {
        let (blocks, main) = record.parts(major).map_err(|e| undecodable(record, &e))?;
        let change =
            decode_change(record, &blocks, main, major).map_err(|e| undecodable(record, &e))?;
        let class = self.names.follow(record, &blocks, main, change.as_ref());
        self.open.take_class(record.xid, record.span.start, class);
        let Some(change) = change else { return Ok(()) };
        self.open.take(record.xid, record.span.start, &change);
        if let WalChange::TransactionEnded { xid, committed, time, subtransactions, dropped } =
            change
        {
            let ending =
                Ending { xid, at: record.span.start, time, committed, timeline: timeline.get() };
            let events = self.open.end(ending, &subtransactions, &dropped, &self.names);
            if record.span.start >= self.found.from_lsn && self.in_time(time) {
                self.seen |= self.request.xid == Some(xid);
                for event in events {
                    self.keep(event);
                }
            }
        }
        Ok(())
    }

    fn in_time(&self, time: PgTimestamp) -> bool {
        let time = time.to_chrono();
        self.request.from.is_none_or(|from| time >= from)
            && self.request.to.is_none_or(|to| time <= to)
    }

    fn keep(&mut self, event: FoundEvent) {
        if !wanted(self.request, &event) {
            return;
        }
        if self.found.events.len() >= EVENTS_MAX {
            self.found.truncated = true;
            return;
        }
        self.found.events.push(event);
    }
}

fn expectations(cluster: &Cluster, timeline: TimelineId) -> WalExpectations {
    WalExpectations {
        system_identifier: Some(cluster.system_identifier),
        // The first pages of a segment in which a timeline begins carry the parent's number.
        timeline: (timeline.get() == 1).then_some(timeline),
        wal_magic: cluster.server_version.traits().map(|t| t.wal_magic),
    }
}

/// Whether an event is what was asked for.
fn wanted(request: &FindRequest, event: &FoundEvent) -> bool {
    if request.xid.is_some_and(|xid| xid.to_string() != event.by.xid) {
        return false;
    }
    if request.table.as_ref().is_some_and(|table| !event.is_of(table)) {
        return false;
    }
    let committed = event.outcome == FoundOutcome::Committed;
    let temporary = event.table.relation.as_deref().is_some_and(is_temporary);
    let users = event.table.oid.is_none_or(|oid| oid >= FIRST_USER_OID) && !temporary;
    let kinds = request.drops || request.truncates || request.mass_deletes;
    if !kinds {
        // Catalogs change with everything; they are shown only by name.
        return request.table.is_some() || users;
    }
    committed
        && users
        && match event.kind {
            FoundKind::Drop | FoundKind::DropDatabase => request.drops,
            FoundKind::Truncate => request.truncates,
            FoundKind::Delete | FoundKind::Update | FoundKind::Insert => {
                request.mass_deletes
                    && event.rows.deleted >= request.rows.unwrap_or(MANY_ROWS).max(1)
                    && (event.table.relation.is_some() || event.table.oid.is_none())
            }
            FoundKind::Rewrite => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: FoundKind, relation: &str, deleted: u64) -> FoundEvent {
        let ending =
            Ending { xid: Xid(7), at: Lsn(9), time: PgTimestamp(0), committed: true, timeline: 1 };
        let names = Names::none(17, 8192);
        let event = FoundEvent::new(kind, ending, Lsn(8), 5, &names);
        FoundEvent {
            table: TableIdentity {
                relation: Some(relation.to_owned()),
                database: Some("app".to_owned()),
                oid: Some(16_400),
                ..event.table
            },
            rows: RowCounts { deleted, ..RowCounts::default() },
            ..event
        }
    }

    #[test]
    fn a_table_is_named_in_three_ways() {
        let event = event(FoundKind::Delete, "public.items", 1);
        for name in ["items", "public.items", "app.public.items"] {
            assert!(event.is_of(name), "{name}");
        }
        for name in ["item", "private.items", "other.public.items", ""] {
            assert!(!event.is_of(name), "{name}");
        }
    }

    #[test]
    fn many_are_as_many_as_was_said() {
        let request = |rows| FindRequest { mass_deletes: true, rows, ..FindRequest::default() };
        let few = event(FoundKind::Delete, "public.items", 99);
        assert!(!wanted(&request(None), &few));
        assert!(wanted(&request(Some(99)), &few));
        assert!(wanted(&request(None), &event(FoundKind::Delete, "public.items", 100)));
        assert!(!wanted(&request(Some(1)), &event(FoundKind::Drop, "public.items", 0)));
    }
}
