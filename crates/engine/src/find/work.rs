//! What each transaction did, gathered record by record until it ends.

use std::collections::{BTreeMap, HashMap, HashSet};

use holdfast_postgres::{Lsn, PgTimestamp, RelationLocator, WalChange, Xid};

use super::names::{ClassChange, Names};
use super::{FoundEvent, FoundKind, RowCounts};

/// What one transaction has done so far.
#[derive(Debug, Default)]
struct Work {
    first: Option<Lsn>,
    rows: BTreeMap<RelationLocator, (Lsn, RowCounts)>,
    created: HashSet<RelationLocator>,
    written: HashSet<RelationLocator>,
    truncated: Vec<(u32, u32)>,
    class: Vec<(Lsn, ClassChange)>,
    databases: Vec<(Lsn, u32)>,
}

impl Work {
    fn add(&mut self, other: Self) {
        self.first = self.first.into_iter().chain(other.first).min();
        for (relation, (at, counts)) in other.rows {
            let mine = self.rows.entry(relation).or_insert((at, RowCounts::default()));
            mine.0 = mine.0.min(at);
            mine.1.add(counts);
        }
        self.created.extend(other.created);
        self.written.extend(other.written);
        self.truncated.extend(other.truncated);
        self.class.extend(other.class);
        self.databases.extend(other.databases);
    }
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) xid: Xid,
    pub(super) at: Lsn,
    pub(super) time: PgTimestamp,
    pub(super) committed: bool,
    pub(super) timeline: u32,
}

/// The transactions that have not ended yet.
#[derive(Debug, Default)]
pub(super) struct OpenWork {
    transactions: HashMap<Xid, Work>,
}

impl OpenWork {
    /// Takes one record's change.
    pub(super) fn take(&mut self, xid: Xid, at: Lsn, change: &WalChange) {
        if !xid.is_valid() || matches!(change, WalChange::TransactionEnded { .. }) {
            return;
        }
        let work = self.transactions.entry(xid).or_default();
        work.first.get_or_insert(at);
        let mut count = |relation: &RelationLocator, counts: RowCounts| {
            work.rows.entry(*relation).or_insert((at, RowCounts::default())).1.add(counts);
        };
        match change {
            WalChange::Inserted { relation, rows } => {
                count(relation, RowCounts { inserted: u64::from(*rows), ..RowCounts::default() });
            }
            WalChange::Updated { relation } => {
                count(relation, RowCounts { updated: 1, ..RowCounts::default() });
            }
            WalChange::Deleted { relation } => {
                count(relation, RowCounts { deleted: 1, ..RowCounts::default() });
            }
            WalChange::Truncated { database, tables } => {
                work.truncated.extend(tables.iter().map(|table| (*database, *table)));
            }
            WalChange::FileCreated { relation } => {
                work.created.insert(*relation);
            }
            WalChange::PagesWritten { relation } => {
                work.written.insert(*relation);
            }
            WalChange::DatabaseDropped { database } => work.databases.push((at, *database)),
            WalChange::DatabaseCreated { .. }
            | WalChange::MapUpdated { .. }
            | WalChange::Running { .. }
            | WalChange::TransactionEnded { .. } => {}
        }
    }

    /// Takes what a record did to `pg_class`.
    pub(super) fn take_class(&mut self, xid: Xid, at: Lsn, changes: Vec<ClassChange>) {
        if xid.is_valid() && !changes.is_empty() {
            let work = self.transactions.entry(xid).or_default();
            work.class.extend(changes.into_iter().map(|change| (at, change)));
        }
    }

    /// What a transaction did, now that it has ended.
    pub(super) fn end(
        &mut self,
        ending: Ending,
        subtransactions: &[Xid],
        dropped: &[RelationLocator],
        names: &Names,
    ) -> Vec<FoundEvent> {
        let mut work = self.transactions.remove(&ending.xid).unwrap_or_default();
        for xid in subtransactions {
            if let Some(part) = self.transactions.remove(xid) {
                work.add(part);
            }
        }
        let mut events = Vec::new();
        if ending.committed {
            events.extend(gone(&work, ending, dropped, names));
        }
        for (relation, (at, counts)) in &work.rows {
            let row = names.relation(relation.database, relation.relfilenode, *at);
            // Pieces of large values: they come and go with rows of the table that owns them.
            if row.is_some_and(|row| row.kind == 't') {
                continue;
            }
            let kind = match counts {
                c if c.deleted > 0 && c.deleted >= c.inserted.max(c.updated) => FoundKind::Delete,
                c if c.updated > 0 && c.updated >= c.inserted => FoundKind::Update,
                _ => FoundKind::Insert,
            };
            // What a rewrite moves is no news beside the rewrite.
            if work.created.contains(relation)
                && events.iter().any(|e: &FoundEvent| {
                    e.kind == FoundKind::Rewrite && e.table.oid == row.map(|row| row.oid)
                })
            {
                continue;
            }
            let mut event = FoundEvent::new(kind, ending, *at, relation.database, names);
            event.table.relfilenode = Some(relation.relfilenode);
            event.rows = *counts;
            event.table.oid = names.mapped(relation.database, relation.relfilenode);
            if let Some(row) = row {
                event.name_relation(row, names, *at);
            }
            events.push(event);
        }
        events
    }
}

/// Kinds of relations whose loss is told; indexes, TOAST tables and sequences go with their tables.
const TOLD: [char; 5] = ['r', 'm', 'p', 'f', 'v'];

/// What was dropped, truncated or rewritten.
fn gone(
    work: &Work,
    ending: Ending,
    dropped: &[RelationLocator],
    names: &Names,
) -> Vec<FoundEvent> {
    let mut events: Vec<FoundEvent> = Vec::new();
    for (at, database) in &work.databases {
        events.push(FoundEvent::new(FoundKind::DropDatabase, ending, *at, *database, names));
    }
    for relation in dropped {
        // Made and dropped by the same transaction: nothing was there before.
        if work.created.contains(relation) {
            continue;
        }
        let database = relation.database;
        let at = work.first.unwrap_or(ending.at);
        let Some(row) = names.relation(database, relation.relfilenode, at) else {
            if !names.knows(database) {
                let mut event = FoundEvent::new(FoundKind::Drop, ending, at, database, names);
                event.table.relfilenode = Some(relation.relfilenode);
                events.push(event);
            }
            continue;
        };
        if !TOLD.contains(&row.kind) {
            continue;
        }
        let successor = work.class.iter().rev().find_map(|(at, change)| match change {
            ClassChange::Put(d, now)
                if *d == database && now.oid == row.oid && now.relfilenode != row.relfilenode =>
            {
                Some((*at, now))
            }
            _ => None,
        });
        let (kind, at) = match successor {
            Some((at, now)) => {
                let refilled = |r: &RelationLocator| {
                    r.database == database && r.relfilenode == now.relfilenode
                };
                let rewritten = work.written.iter().any(refilled) || work.rows.keys().any(refilled);
                (if rewritten { FoundKind::Rewrite } else { FoundKind::Truncate }, at)
            }
            None => (FoundKind::Drop, removed_at(work, database, row.oid).unwrap_or(at)),
        };
        let mut event = FoundEvent::new(kind, ending, at, database, names);
        event.table.relfilenode = Some(relation.relfilenode);
        event.rows_estimate = row.rows;
        event.name_relation(row, names, at);
        events.push(event);
    }
    // Named as truncated, or without files of its own.
    for (database, oid) in &work.truncated {
        let at = work.first.unwrap_or(ending.at);
        let known = |e: &FoundEvent| e.table.database_oid == *database && e.table.oid == Some(*oid);
        if let Some(event) = events.iter_mut().find(|e| known(e)) {
            event.kind = FoundKind::Truncate;
            continue;
        }
        let mut event = FoundEvent::new(FoundKind::Truncate, ending, at, *database, names);
        event.table.oid = Some(*oid);
        if let Some(row) = names.by_oid(*database, *oid, at) {
            event.name_relation(row, names, at);
        }
        events.push(event);
    }
    for (at, change) in &work.class {
        let ClassChange::Removed(database, row) = change else { continue };
        let stays = work.class.iter().any(|(later, change)| {
            later >= at
                && matches!(change, ClassChange::Put(d, now) if d == database && now.oid == row.oid)
        });
        // The helper tables of a rewrite, and whatever else never outlived its transaction.
        let made_here = work.class.iter().any(|(made, change)| {
            matches!(change, ClassChange::Put(d, now) if d == database && now.oid == row.oid)
                && names.first_seen(*database, row.oid) == Some(*made)
        });
        let known = events
            .iter()
            .any(|e| e.table.database_oid == *database && e.table.oid == Some(row.oid));
        if stays || made_here || known || !TOLD.contains(&row.kind) {
            continue;
        }
        let mut event = FoundEvent::new(FoundKind::Drop, ending, *at, *database, names);
        event.name_relation(row, names, *at);
        events.push(event);
    }
    events
}

fn removed_at(work: &Work, database: u32, oid: u32) -> Option<Lsn> {
    work.class.iter().rev().find_map(|(at, change)| match change {
        ClassChange::Removed(d, row) if *d == database && row.oid == oid => Some(*at),
        _ => None,
    })
}
