//! What is lost by going back to a point.

use chrono::{DateTime, Utc};
use holdfast_postgres::Lsn;
use serde::{Deserialize, Serialize};

use crate::archive::{ArchiveView, Leg, PointEvent, TransactionKind};
use crate::find::LossChanges;
use crate::points::Commit;
use crate::target::Target;

/// At most this many transactions are listed as left out by a stop by time.
const LEFT_OUT_LIMIT: usize = 20;

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

/// What the transactions from `end` on amount to; `reachable` is how far the archive goes without a hole.
pub(in crate::restore) fn loss(
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
