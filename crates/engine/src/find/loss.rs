//! What going back to a point discards, table by table: rows inserted, updated and deleted since, and
//! what was emptied, dropped or rewritten.
//!
//! It is read out of the WAL and bounded in bytes and time. What was not looked at is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holdfast_postgres::{Lsn, WalChange, decode_change};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::names::Names;
use super::work::{Ending, OpenWork};
use super::{
    FIRST_USER_OID, FoundEvent, FoundKind, Reading, RowCounts, TableIdentity, is_temporary,
    undecodable,
};
use crate::Engine;
use crate::archive::Gap;
use crate::error::Result;
use crate::restore::Prepared;

/// So many relations are listed.
const RELATIONS_SHOWN: usize = 20;
/// So many relations are kept apart; those that come later are only in the total.
const RELATIONS_MAX: usize = 10_000;
/// So many events are listed.
const EVENTS_SHOWN: usize = 100;

/// How much a look at the loss may cost.
#[derive(Debug, Clone, Copy)]
pub struct LossBudget {
    /// WAL that is read.
    pub wal_bytes: u64,
    /// Time that is taken.
    pub time: Duration,
}

impl LossBudget {
    /// For a plan: nobody waits for it.
    pub const PLAN: Self = Self { wal_bytes: 64 << 20, time: Duration::from_secs(3) };
    /// When asked for.
    pub const ASKED: Self = Self { wal_bytes: 16 << 30, time: Duration::from_mins(10) };
}

/// Rows of one table that going back discards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct RelationLoss {
    /// The table, as it was called when it was first touched.
    #[serde(flatten)]
    pub table: TableIdentity,
    /// The rows.
    pub rows: RowCounts,
    /// Committed transactions that touched it.
    #[ts(type = "number")]
    pub transactions: u64,
}

/// What going back to a point discards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct LossChanges {
    /// Where the discarded WAL begins.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// How far it was looked at.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// Whether that is all of it. Otherwise every number is of what was looked at only.
    pub complete: bool,
    /// Discarded WAL that was not looked at.
    #[ts(type = "number")]
    pub wal_bytes_left: u64,
    /// Transactions that began before the discarded WAL may have done more than is counted.
    pub lower_bound: bool,
    /// All rows of all tables.
    pub total: RowCounts,
    /// The tables with the most rows, at most 20.
    pub relations: Vec<RelationLoss>,
    /// How many tables there are besides.
    #[ts(type = "number")]
    pub relations_more: u64,
    /// What was emptied, dropped or rewritten, in WAL order; at most 100. None where it is not known.
    pub events: Option<Vec<FoundEvent>>,
    /// How many there are besides.
    #[ts(type = "number")]
    pub events_more: u64,
    /// Committed transactions that changed the schema. None where it is not known.
    #[ts(type = "number | null")]
    pub schema_changes: Option<u64>,
    /// WAL that is missing in between: what happened there is not known.
    pub gaps: Vec<Gap>,
}

impl Engine {
    /// Looks into the WAL that a planned restore discards.
    ///
    /// # Errors
    /// When WAL cannot be read back.
    pub(crate) async fn loss_changes(
        &self,
        prepared: &Prepared,
        budget: LossBudget,
    ) -> Result<LossChanges> {
        let cancel = CancellationToken::new();
        let from = prepared.end();
        let view = &prepared.view;
        let to = prepared
            .legs
            .iter()
            .filter_map(|leg| {
                let end = view.runs(leg.timeline).last()?.1;
                Some(leg.to.map_or(end, |to| to.min(end)))
            })
            .max()
            .unwrap_or(from)
            .max(from);
        let snapshot = &prepared.snapshot;
        // Names as of each moment need the WAL since the snapshot; without it they are the snapshot's.
        let earlier = from.distance_from(snapshot.start_lsn);
        let followed = earlier <= budget.wal_bytes / 2;
        let mut tally = Tally {
            names: Names::of_snapshot(&prepared.repository, snapshot, &cancel).await?,
            open: OpenWork::default(),
            followed,
            from,
            relations: BTreeMap::new(),
            changes: LossChanges {
                from_lsn: from,
                to_lsn: from,
                complete: false,
                wal_bytes_left: 0,
                lower_bound: !followed,
                total: RowCounts::default(),
                relations: Vec::new(),
                relations_more: 0,
                events: followed.then(Vec::new),
                events_more: 0,
                schema_changes: followed.then_some(0),
                gaps: view
                    .gaps
                    .iter()
                    .filter(|g| g.from_lsn < to && g.to_lsn > from)
                    .cloned()
                    .collect(),
            },
        };
        let begin = if followed { snapshot.start_lsn } else { from };
        let left = budget.wal_bytes.saturating_sub(if followed { earlier } else { 0 });
        let until = to.min(from.saturating_add(left));
        let reading = Reading {
            cluster: &prepared.cluster,
            repository: &prepared.repository,
            view,
            legs: &prepared.legs,
            cancel: &cancel,
            deadline: Instant::now().checked_add(budget.time),
        };
        let major = prepared.cluster.server_version.major();
        let reached = reading
            .read((begin, until), |record, timeline| tally.take(record, timeline.get(), major))
            .await?;
        let reached = reached.max(from).min(to);
        Ok(tally.finish(reached, to))
    }
}

/// The numbers so far.
struct Tally {
    names: Names,
    open: OpenWork,
    /// Whether the catalogs are carried on by the WAL.
    followed: bool,
    from: Lsn,
    relations: BTreeMap<(u32, Option<u32>, Option<u32>), RelationLoss>,
    changes: LossChanges,
}

impl Tally {
    fn take(
        &mut self,
        record: &holdfast_postgres::WalRecord,
        timeline: u32,
        major: u32,
    ) -> Result<()> {
        let (blocks, main) = record.parts(major).map_err(|e| undecodable(record, &e))?;
        let change =
            decode_change(record, &blocks, main, major).map_err(|e| undecodable(record, &e))?;
        if self.followed {
            let class = self.names.follow(record, &blocks, main, change.as_ref());
            self.open.take_class(record.xid, record.span.start, class);
        }
        let Some(change) = change else { return Ok(()) };
        self.open.take(record.xid, record.span.start, &change);
        let WalChange::TransactionEnded { xid, committed, time, subtransactions, dropped } = change
        else {
            return Ok(());
        };
        let ending = Ending { xid, at: record.span.start, time, committed, timeline };
        let events = self.open.end(ending, &subtransactions, &dropped, &self.names);
        if committed && record.span.start >= self.from {
            self.count(events);
        }
        Ok(())
    }

    fn count(&mut self, events: Vec<FoundEvent>) {
        let temporary = |e: &FoundEvent| e.table.relation.as_deref().is_some_and(is_temporary);
        let catalog = |e: &FoundEvent| e.table.oid.is_some_and(|oid| oid < FIRST_USER_OID);
        // Statistics and large objects change without anybody changing the schema.
        let schema =
            |e: &FoundEvent| catalog(e) && !matches!(e.table.oid, Some(2613 | 2619 | 2995 | 3429));
        if let Some(changes) = &mut self.changes.schema_changes
            && events.iter().any(schema)
            && !events.iter().any(temporary)
        {
            *changes += 1;
        }
        for event in events.into_iter().filter(|e| !catalog(e) && !temporary(e)) {
            match event.kind {
                FoundKind::Insert | FoundKind::Update | FoundKind::Delete => self.add(event),
                FoundKind::Truncate
                | FoundKind::Rewrite
                | FoundKind::Drop
                | FoundKind::DropDatabase => {
                    let Some(list) = &mut self.changes.events else { continue };
                    if list.len() < EVENTS_SHOWN {
                        list.push(event);
                    } else {
                        self.changes.events_more += 1;
                    }
                }
            }
        }
    }

    fn add(&mut self, event: FoundEvent) {
        self.changes.total.add(event.rows);
        let table = event.table;
        let file = table.relfilenode.filter(|_| table.oid.is_none());
        let key = (table.database_oid, table.oid, file);
        if self.relations.len() >= RELATIONS_MAX && !self.relations.contains_key(&key) {
            self.changes.relations_more += 1;
            return;
        }
        let relation = self.relations.entry(key).or_insert(RelationLoss {
            table,
            rows: RowCounts::default(),
            transactions: 0,
        });
        relation.rows.add(event.rows);
        relation.transactions += 1;
    }

    fn finish(mut self, reached: Lsn, to: Lsn) -> LossChanges {
        let rows = |r: &RelationLoss| r.rows.inserted + r.rows.updated + r.rows.deleted;
        let mut relations: Vec<_> = self.relations.into_values().collect();
        relations.sort_by_key(|r| std::cmp::Reverse(rows(r)));
        let more = relations.len().saturating_sub(RELATIONS_SHOWN) as u64;
        relations.truncate(RELATIONS_SHOWN);
        self.changes.relations = relations;
        self.changes.relations_more += more;
        self.changes.to_lsn = reached;
        self.changes.wal_bytes_left = to.distance_from(reached);
        self.changes.complete = reached >= to && self.changes.gaps.is_empty();
        self.changes
    }
}
