//! Markers: what destroyed rows, gathered record by record while WAL passes, and kept in the index
//! beside it: mass deletes, truncated, dropped and rewritten relations, dropped databases.
//!
//! Relations are numbers of files here: whoever shows them gives them the names of the time.

use std::collections::{HashMap, HashSet};

use holdfast_postgres::heap::{self, ClassFileUpdate};
use holdfast_postgres::{
    BlockReference, Lsn, PAGE_SIZE_DEFAULT, PgTimestamp, RecordSpan, RelationLocator, WalChange,
    WalReadError, WalRecord, Xid, decode_change,
};
use serde::{Deserialize, Serialize};

/// So many deleted rows of one table in one transaction are many.
pub const MANY_ROWS: u64 = 100;
/// What an index says about markers is of this version; another is read as unknown.
const VERSION: u32 = 1;
/// At most so many changes of one transaction are kept.
const CHANGES_MAX: usize = 256;
/// At most so many transactions are followed at a time, and so many relations of one.
const OPEN_MAX: usize = 20_000;
const RELATIONS_MAX: usize = 20_000;
/// `pg_class`, and the number its files have unless it was rewritten.
const PG_CLASS: u32 = 1259;
/// Files of catalogs that were never rewritten have lower numbers (`FirstNormalObjectId`).
const FIRST_USER_FILE: u32 = 16_384;

/// What destroyed rows.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ts_rs::TS,
)]
#[serde(rename_all = "snake_case")]
pub enum MarkerKind {
    /// Many rows were deleted.
    Delete,
    /// A relation was rewritten: `VACUUM FULL`, `CLUSTER`, some `ALTER TABLE`.
    Rewrite,
    /// A relation was emptied.
    Truncate,
    /// A relation was dropped.
    Drop,
    /// A database was dropped.
    DropDatabase,
}

/// One thing that a transaction did to one relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedChange {
    /// What.
    pub kind: MarkerKind,
    /// Oid of the database.
    pub database: u32,
    /// The number of the relation's files before; none where it is named by its oid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relfilenode: Option<u32>,
    /// The number of its files since, where it got others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<u32>,
    /// Its oid, where a record told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oid: Option<u32>,
    /// Deleted rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// A transaction that destroyed rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionMarker {
    /// The transaction.
    pub xid: Xid,
    /// Its first record that mattered.
    pub first: Lsn,
    /// The record of its commit.
    pub span: RecordSpan,
    /// When it committed.
    pub time: PgTimestamp,
    /// Whether it may have begun before the WAL that was read: rows are a lower bound then, and what
    /// is told as dropped may have been emptied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun_before: bool,
    /// What it did.
    pub changes: Vec<MarkedChange>,
    /// Changes that found no room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The markers of a stretch of WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentMarkers {
    version: u32,
    /// In WAL order of their commits.
    pub transactions: Vec<TransactionMarker>,
}

impl SegmentMarkers {
    pub(crate) fn new() -> Self {
        Self { version: VERSION, transactions: Vec::new() }
    }

    /// Whether this program understands them.
    pub(crate) fn is_known(&self) -> bool {
        self.version == VERSION
    }
}

/// What one transaction has done so far.
#[derive(Debug, Default)]
struct Open {
    first: Option<Lsn>,
    deleted: HashMap<RelationLocator, u64>,
    /// Files it made; whether something came into them; whether they are an index's.
    created: HashMap<RelationLocator, (bool, bool)>,
    truncated: Vec<(u32, u32)>,
    class: Vec<(u32, ClassFileUpdate)>,
    databases: Vec<u32>,
}

impl Open {
    fn add(&mut self, other: Self) {
        self.first = self.first.into_iter().chain(other.first).min();
        for (relation, rows) in other.deleted {
            *self.deleted.entry(relation).or_default() += rows;
        }
        self.created.extend(other.created);
        self.truncated.extend(other.truncated);
        self.class.extend(other.class);
        self.databases.extend(other.databases);
    }

    fn size(&self) -> usize {
        self.deleted.len() + self.created.len() + self.truncated.len() + self.class.len()
    }
}

/// Follows the transactions of a stream of records.
#[derive(Debug)]
pub(crate) struct MarkerGatherer {
    open: HashMap<Xid, Open>,
    /// Files of `pg_class`: database and number.
    class_files: HashSet<(u32, u32)>,
    /// Transactions from this one on began within the WAL that was read.
    whole_from: Option<Xid>,
}

impl MarkerGatherer {
    pub(crate) fn new() -> Self {
        Self { open: HashMap::new(), class_files: HashSet::new(), whole_from: None }
    }

    /// Takes one record of a server of major version `major`; gives what it ends.
    ///
    /// # Errors
    /// When the record does not have its kind's shape.
    pub(crate) fn take(
        &mut self,
        record: &WalRecord,
        major: u32,
    ) -> Result<Option<TransactionMarker>, WalReadError> {
        if !matters(record) {
            return Ok(None);
        }
        let (blocks, main) = record.parts(major)?;
        let change = decode_change(record, &blocks, main, major)?;
        match change {
            None | Some(WalChange::DatabaseCreated { template: None, .. }) => {}
            Some(WalChange::Running { next }) => {
                self.whole_from.get_or_insert(next);
            }
            Some(WalChange::MapUpdated { database, map }) => {
                let files = heap::relation_map(&map).unwrap_or_default();
                self.class_files.extend(
                    files.iter().filter(|(oid, _)| *oid == PG_CLASS).map(|(_, f)| (database, *f)),
                );
            }
            Some(WalChange::DatabaseCreated { database, template: Some(template) }) => {
                let copies: Vec<_> =
                    self.class_files.iter().filter(|(d, _)| *d == template).copied().collect();
                self.class_files.extend(copies.iter().map(|(_, file)| (database, *file)));
            }
            Some(WalChange::TransactionEnded {
                xid,
                committed,
                time,
                subtransactions,
                dropped,
            }) => return Ok(self.end(record, xid, committed, time, &subtransactions, &dropped)),
            Some(change) => self.note(record, &blocks, main, &change),
        }
        Ok(None)
    }

    fn note(
        &mut self,
        record: &WalRecord,
        blocks: &[BlockReference<'_>],
        main: &[u8],
        change: &WalChange,
    ) {
        let class_update = match change {
            WalChange::Updated { relation } if self.is_class(relation) => {
                heap::class_file_update(record, blocks, main, PAGE_SIZE_DEFAULT)
            }
            // Rows that come or change matter only where the transaction fills a file it made.
            WalChange::Inserted { .. }
            | WalChange::Updated { .. }
            | WalChange::PagesWritten { .. }
                if !self.open.contains_key(&record.xid) =>
            {
                return;
            }
            _ => None,
        };
        if !record.xid.is_valid() {
            return;
        }
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&record.xid) {
            self.forget();
        }
        let open = self.open.entry(record.xid).or_default();
        open.first.get_or_insert(record.span.start);
        match change {
            WalChange::Deleted { relation } if relation.relfilenode >= FIRST_USER_FILE => {
                *open.deleted.entry(*relation).or_default() += 1;
            }
            WalChange::Inserted { relation, .. } => {
                if let Some(file) = open.created.get_mut(relation) {
                    file.0 = true;
                }
            }
            WalChange::PagesWritten { relation } => {
                if let Some(file) = open.created.get_mut(relation)
                    && !file.0
                {
                    let first = blocks.iter().find(|b| b.fork == 0).and_then(|b| b.image);
                    let page = first.and_then(|image| image.page(PAGE_SIZE_DEFAULT));
                    *file = (true, page.is_some_and(|page| heap::is_index_page(&page)));
                }
            }
            WalChange::FileCreated { relation } => {
                open.created.insert(*relation, (false, false));
            }
            WalChange::Truncated { database, tables } => {
                open.truncated.extend(tables.iter().map(|table| (*database, *table)));
            }
            WalChange::DatabaseDropped { database } => open.databases.push(*database),
            _ => {}
        }
        if let (Some(update), Some(first)) = (class_update, blocks.first()) {
            open.class.push((first.relation.database, update));
        }
        if open.size() > RELATIONS_MAX {
            self.forget();
        }
    }

    /// Too much to remember: what is open now counts as begun before.
    fn forget(&mut self) {
        self.open.clear();
        self.whole_from = None;
    }

    fn is_class(&self, relation: &RelationLocator) -> bool {
        relation.relfilenode == PG_CLASS
            || self.class_files.contains(&(relation.database, relation.relfilenode))
    }

    fn end(
        &mut self,
        record: &WalRecord,
        xid: Xid,
        committed: bool,
        time: PgTimestamp,
        subtransactions: &[Xid],
        dropped: &[RelationLocator],
    ) -> Option<TransactionMarker> {
        let mut work = self.open.remove(&xid).unwrap_or_default();
        for part in subtransactions.iter().filter_map(|xid| self.open.remove(xid)) {
            work.add(part);
        }
        if !committed {
            return None;
        }
        let first = work.first.unwrap_or(record.span.start);
        let mut changes = changes(&work, dropped);
        if changes.is_empty() {
            return None;
        }
        // Of too many the gravest stay.
        changes.sort_by_key(|change| std::cmp::Reverse((change.kind, change.rows)));
        let omitted = u32::try_from(changes.len().saturating_sub(CHANGES_MAX)).unwrap_or(u32::MAX);
        changes.truncate(CHANGES_MAX);
        let begun_before = self.whole_from.is_none_or(|from| xid.precedes(from));
        Some(TransactionMarker {
            xid,
            first,
            span: record.span,
            time,
            begun_before,
            changes,
            omitted,
        })
    }
}

/// Whether a record can be of interest, told without taking it apart.
fn matters(record: &WalRecord) -> bool {
    use holdfast_postgres::rmgr;
    match record.rmgr {
        // All but row locks and changes in place.
        rmgr::HEAP => !matches!(record.info & 0x70, 0x60 | 0x70),
        rmgr::HEAP2 => record.info & 0x70 == 0x50,
        rmgr::XLOG => matches!(record.info & 0xF0, 0xA0 | 0xB0),
        rmgr::XACT | rmgr::SMGR | rmgr::DBASE | rmgr::RELMAP | rmgr::STANDBY => true,
        _ => false,
    }
}

/// What a committed transaction destroyed.
fn changes(work: &Open, dropped: &[RelationLocator]) -> Vec<MarkedChange> {
    let of = |kind, database| MarkedChange {
        kind,
        database,
        relfilenode: None,
        successor: None,
        oid: None,
        rows: None,
    };
    let mut changes: Vec<_> =
        work.databases.iter().map(|database| of(MarkerKind::DropDatabase, *database)).collect();
    let created = |database: u32, file: u32| {
        work.created
            .iter()
            .find(|(made, _)| made.database == database && made.relfilenode == file)
            .map(|(_, facts)| *facts)
    };
    // Made and dropped by the same transaction: nothing was there before.
    let gone: Vec<_> = dropped.iter().filter(|r| !work.created.contains_key(r)).collect();
    let mut updates: Vec<_> = work.class.iter().map(Some).collect();
    let mut paired: Vec<Option<(u32, Option<u32>)>> = Vec::with_capacity(gone.len());
    for relation in &gone {
        let found = updates.iter_mut().find_map(|slot| {
            let (database, update) = (*slot)?;
            // One that names any file says nothing about this one yet.
            if *database != relation.database
                || (update.before.is_none() && update.stands_alone().is_some())
            {
                return None;
            }
            let now = update.successor(relation.relfilenode)?;
            created(*database, now)?;
            *slot = None;
            Some((now, update.oid))
        });
        paired.push(found);
    }
    for (relation, pair) in gone.iter().zip(&mut paired).filter(|(_, pair)| pair.is_none()) {
        *pair = updates.iter_mut().find_map(|slot| {
            let (database, update) = (*slot)?;
            let now = update.stands_alone().filter(|_| *database == relation.database)?;
            created(*database, now)?;
            *slot = None;
            Some((now, update.oid))
        });
    }
    for (relation, pair) in gone.iter().zip(paired) {
        let (kind, successor, oid) = match pair {
            None => (MarkerKind::Drop, None, None),
            Some((now, oid)) => match created(relation.database, now).unwrap_or_default() {
                // An index was built anew.
                (_, true) => continue,
                (true, _) => (MarkerKind::Rewrite, Some(now), oid),
                (false, _) => (MarkerKind::Truncate, Some(now), oid),
            },
        };
        let relfilenode = Some(relation.relfilenode);
        changes.push(MarkedChange { relfilenode, successor, oid, ..of(kind, relation.database) });
    }
    for (database, oid) in &work.truncated {
        changes.push(MarkedChange { oid: Some(*oid), ..of(MarkerKind::Truncate, *database) });
    }
    for (relation, rows) in &work.deleted {
        if *rows >= MANY_ROWS && !gone.contains(&relation) {
            let relfilenode = Some(relation.relfilenode);
            let rows = Some(*rows);
            changes.push(MarkedChange {
                relfilenode,
                rows,
                ..of(MarkerKind::Delete, relation.database)
            });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(relfilenode: u32) -> RelationLocator {
        RelationLocator { tablespace: 1663, database: 5, relfilenode }
    }

    fn update(before: Option<u32>, now: u32) -> ClassFileUpdate {
        ClassFileUpdate::whole(before, now)
    }

    fn kinds(work: &Open, dropped: &[RelationLocator]) -> Vec<(MarkerKind, Option<u32>)> {
        changes(work, dropped).into_iter().map(|c| (c.kind, c.relfilenode)).collect()
    }

    #[test]
    fn what_took_the_place_of_a_file_tells_what_happened() {
        let dropped = [file(20_000)];
        assert_eq!(kinds(&Open::default(), &dropped), [(MarkerKind::Drop, Some(20_000))]);
        for (facts, expected) in [
            ((false, false), vec![(MarkerKind::Truncate, Some(20_000))]),
            ((true, false), vec![(MarkerKind::Rewrite, Some(20_000))]),
            ((true, true), vec![]),
        ] {
            for before in [Some(20_000), None] {
                let work = Open {
                    created: HashMap::from([(file(30_000), facts)]),
                    class: vec![(5, update(before, 30_000))],
                    ..Open::default()
                };
                assert_eq!(kinds(&work, &dropped), expected, "{facts:?} {before:?}");
            }
        }
        let made_here =
            Open { created: HashMap::from([(file(20_000), (true, false))]), ..Open::default() };
        assert_eq!(kinds(&made_here, &dropped), []);
    }

    #[test]
    fn few_deleted_rows_are_no_marker() {
        let with =
            |rows| Open { deleted: HashMap::from([(file(20_000), rows)]), ..Open::default() };
        assert_eq!(kinds(&with(MANY_ROWS - 1), &[]), []);
        let many = changes(&with(MANY_ROWS), &[]);
        assert_eq!((many[0].kind, many[0].rows), (MarkerKind::Delete, Some(MANY_ROWS)));
    }

    #[test]
    fn another_version_is_not_understood() {
        let text = r#"{"version":2,"transactions":[]}"#;
        assert!(!serde_json::from_str::<SegmentMarkers>(text).unwrap().is_known());
        let text = serde_json::to_string(&SegmentMarkers::new()).unwrap();
        assert!(serde_json::from_str::<SegmentMarkers>(&text).unwrap().is_known());
    }
}
