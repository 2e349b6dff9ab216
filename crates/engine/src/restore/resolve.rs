//! Where PostgreSQL will stop, worked out from the commit index before anything is written.
//!
//! The rules are those of `recoveryStopsBefore` and `recoveryStopsAfter` in PostgreSQL's
//! `xlogrecovery.c`: a time is compared at transaction ends only and the first hit wins, a
//! transaction id must be that of a commit or an abort, an LSN is compared with where records start.

use holdfast_postgres::{Lsn, RecordSpan, TimelineId};
use serde::{Deserialize, Serialize};

use crate::archive::{PointEvent, TransactionEnd};
use crate::target::Target;

/// What one snapshot and its WAL look like to the resolver.
pub(super) struct Way<'a> {
    /// Everything recovery can stop at from the snapshot's start, in WAL order.
    pub(super) events: &'a [PointEvent],
    /// Where replay begins.
    pub(super) start: Lsn,
    /// Where the copy is consistent.
    pub(super) consistent: Lsn,
    /// The last whole record that can be reached.
    pub(super) last_record: Option<RecordSpan>,
    /// The first record at or after the target, when the target is an LSN (or the pinned latest).
    pub(super) record: Option<RecordSpan>,
}

/// The stop that PostgreSQL will make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The stop rule as PostgreSQL is told it.
    pub rule: StopRule,
    /// The record at which it stops.
    pub at: Option<RecordSpan>,
    /// Whether that record is left out.
    pub before: bool,
    /// Whether that record is a transaction's end.
    pub at_transaction: bool,
}

/// A stop rule in PostgreSQL's own terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopRule {
    /// `recovery_target = 'immediate'`.
    Immediate,
    /// `recovery_target_time`, microseconds since 2000-01-01 UTC.
    Time(i64),
    /// `recovery_target_xid`.
    Xid(u32),
    /// `recovery_target_lsn`.
    Lsn(Lsn),
    /// `recovery_target_name`.
    Name(String),
}

/// Why a snapshot cannot reach a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Miss {
    /// The target lies before this snapshot is consistent: an older one may do.
    TooEarly,
    /// The WAL that can be reached ends before the target.
    NotReached,
    /// No such transaction or restore point on this way.
    NotFound,
}

impl Stop {
    /// The first byte that is not replayed.
    pub fn end(&self, consistent: Lsn) -> Lsn {
        match (&self.rule, self.at) {
            (_, Some(record)) if self.before => record.start,
            (_, Some(record)) => record.end,
            (_, None) => consistent,
        }
    }
}

impl Stop {
    /// How far WAL is read: the record before which it stops is read as well.
    pub(super) fn read_to(&self, consistent: Lsn) -> Lsn {
        let end = self.end(consistent);
        self.at.map_or(end, |record| record.end.max(end))
    }
}

/// Resolves `target` on one way.
pub(super) fn resolve(target: &Target, exclusive: bool, way: &Way<'_>) -> Result<Stop, Miss> {
    let transactions = || {
        way.events.iter().filter_map(|e| match e {
            PointEvent::Transaction(_, t) => Some(t),
            PointEvent::Point(..) => None,
        })
    };
    let at_transaction = |rule, t: &TransactionEnd, before| {
        consistent(way, t.span, before).map(|()| Stop {
            rule,
            at: Some(t.span),
            before,
            at_transaction: true,
        })
    };
    match target {
        Target::Immediate => {
            Ok(Stop { rule: StopRule::Immediate, at: None, before: false, at_transaction: false })
        }
        Target::Latest => {
            let last = way.last_record.ok_or(Miss::NotReached)?;
            consistent(way, last, false)?;
            Ok(Stop {
                rule: StopRule::Lsn(last.start),
                at: Some(last),
                before: false,
                at_transaction: false,
            })
        }
        Target::Time(time) => {
            let whole = holdfast_postgres::PgTimestamp::from_chrono(*time);
            // PostgreSQL counts microseconds: an exclusive target between two of them keeps the first.
            let between = whole.to_chrono() < *time;
            let time = if exclusive && between {
                holdfast_postgres::PgTimestamp(whole.0.saturating_add(1))
            } else {
                whole
            };
            let hit =
                transactions().find(|t| if exclusive { t.time >= time } else { t.time > time });
            at_transaction(StopRule::Time(time.0), hit.ok_or(Miss::NotReached)?, true)
        }
        Target::Xid(xid) => {
            let hit = transactions().find(|t| t.xid == *xid);
            at_transaction(StopRule::Xid(xid.0), hit.ok_or(Miss::NotFound)?, exclusive)
        }
        Target::Lsn(lsn) => {
            if *lsn < way.start {
                return Err(Miss::TooEarly);
            }
            let record = way.record.ok_or(Miss::NotReached)?;
            consistent(way, record, exclusive)?;
            let at_transaction = transactions().any(|t| t.span.start == record.start);
            Ok(Stop {
                rule: StopRule::Lsn(*lsn),
                at: Some(record),
                before: exclusive,
                at_transaction,
            })
        }
        Target::Name(name) => {
            let hit = way.events.iter().find_map(|e| match e {
                PointEvent::Point(_, p) if p.name == *name => Some(p.span),
                _ => None,
            });
            let span = hit.ok_or(Miss::NotFound)?;
            consistent(way, span, false)?;
            Ok(Stop {
                rule: StopRule::Name(name.clone()),
                at: Some(span),
                before: false,
                at_transaction: false,
            })
        }
    }
}

/// PostgreSQL refuses to stop before the copy is consistent.
fn consistent(way: &Way<'_>, record: RecordSpan, before: bool) -> Result<(), Miss> {
    let replayed_to = if before { record.start } else { record.end };
    if replayed_to >= way.consistent { Ok(()) } else { Err(Miss::TooEarly) }
}

/// The last transaction end that is replayed, and the first that is not.
pub(super) fn around(
    events: &[PointEvent],
    end: Lsn,
) -> (Option<(TimelineId, TransactionEnd)>, Option<PointEvent>) {
    let mut last = None;
    for event in events {
        match event {
            PointEvent::Transaction(timeline, t) if t.span.start < end => {
                last = Some((*timeline, *t))
            }
            PointEvent::Transaction(..) => return (last, Some(event.clone())),
            PointEvent::Point(..) => {}
        }
    }
    (last, None)
}

/// The transaction end whose time PostgreSQL will have noted last in a replay that begins at `from`. It
/// stops after an LSN without noting the time of the record at which it stops, and knows nothing of what
/// an earlier replay has noted.
pub(super) fn last_noted(
    stop: &Stop,
    events: &[PointEvent],
    from: Lsn,
    end: Lsn,
) -> Option<TransactionEnd> {
    let end = match (&stop.rule, stop.at) {
        (StopRule::Lsn(_), Some(record)) if !stop.before => record.start,
        _ => end,
    };
    let begin = events.partition_point(|event| event.span().start < from);
    around(events.get(begin..).unwrap_or_default(), end).0.map(|(_, t)| t)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use holdfast_postgres::{PgTimestamp, Xid};

    use super::*;
    use crate::archive::{NamedPoint, TransactionKind};

    fn commit(at: u64, xid: u32, time: i64) -> PointEvent {
        PointEvent::Transaction(
            TimelineId::new(1).unwrap(),
            TransactionEnd {
                kind: TransactionKind::Commit,
                span: RecordSpan { start: Lsn(at), end: Lsn(at + 40) },
                xid: Xid(xid),
                time: PgTimestamp(time),
            },
        )
    }

    fn point(at: u64, name: &str) -> PointEvent {
        PointEvent::Point(
            TimelineId::new(1).unwrap(),
            NamedPoint {
                span: RecordSpan { start: Lsn(at), end: Lsn(at + 40) },
                name: name.into(),
                time: PgTimestamp(0),
            },
        )
    }

    /// Consistent at 200; times are not monotonic.
    fn events() -> Vec<PointEvent> {
        vec![
            commit(104, 10, 1000),
            commit(200, 11, 2000),
            commit(240, 13, 4000),
            commit(280, 12, 3000),
            point(320, "deploy"),
            commit(360, 14, 5000),
        ]
    }

    fn way(events: &[PointEvent]) -> Way<'_> {
        Way {
            events,
            start: Lsn(100),
            consistent: Lsn(200),
            last_record: Some(RecordSpan { start: Lsn(360), end: Lsn(400) }),
            record: None,
        }
    }

    fn time(microseconds: i64) -> Target {
        Target::Time(PgTimestamp(microseconds).to_chrono())
    }

    #[test]
    fn a_time_stops_before_the_first_later_end() {
        let events = events();
        let stop = resolve(&time(2500), false, &way(&events)).unwrap();
        assert_eq!((stop.at.unwrap().start, stop.before), (Lsn(240), true));
        // The commit at 3000 stands after the one at 4000 in the WAL: it is left out.
        let (last, next) = around(&events, stop.end(Lsn(200)));
        assert_eq!(last.unwrap().1.xid, Xid(11));
        assert_eq!(next.unwrap().span().start, Lsn(240));
    }

    #[test]
    fn an_exact_time_is_in_or_out() {
        let events = events();
        assert_eq!(resolve(&time(2000), false, &way(&events)).unwrap().at.unwrap().start, Lsn(240));
        assert_eq!(resolve(&time(2000), true, &way(&events)).unwrap().at.unwrap().start, Lsn(200));
    }

    #[test]
    fn a_time_after_the_last_end_is_never_reached() {
        assert_eq!(resolve(&time(5000), false, &way(&events())), Err(Miss::NotReached));
        assert!(resolve(&time(5000), true, &way(&events())).is_ok());
    }

    #[test]
    fn a_stop_before_consistency_needs_an_older_snapshot() {
        assert_eq!(resolve(&time(500), false, &way(&events())), Err(Miss::TooEarly));
        assert_eq!(resolve(&Target::Xid(Xid(10)), false, &way(&events())), Err(Miss::TooEarly));
        assert!(resolve(&Target::Xid(Xid(11)), true, &way(&events())).is_ok());
    }

    #[test]
    fn a_transaction_is_in_or_out() {
        let events = events();
        let inside = resolve(&Target::Xid(Xid(13)), false, &way(&events)).unwrap();
        let outside = resolve(&Target::Xid(Xid(13)), true, &way(&events)).unwrap();
        assert_eq!(inside.end(Lsn(200)), Lsn(280));
        assert_eq!(outside.end(Lsn(200)), Lsn(240));
        assert_eq!(around(&events, outside.end(Lsn(200))).0.unwrap().1.xid, Xid(11));
        assert_eq!(resolve(&Target::Xid(Xid(99)), false, &way(&events)), Err(Miss::NotFound));
    }

    #[test]
    fn latest_is_pinned_to_the_last_record() {
        let stop = resolve(&Target::Latest, false, &way(&events())).unwrap();
        assert_eq!(stop.rule, StopRule::Lsn(Lsn(360)));
        assert_eq!(stop.end(Lsn(200)), Lsn(400));
    }

    #[test]
    fn only_what_a_replay_has_passed_is_noted() {
        let events = events();
        let noted = |target: &Target, from| {
            let record = RecordSpan { start: Lsn(360), end: Lsn(400) };
            let way = Way { record: Some(record), ..way(&events) };
            let stop = resolve(target, false, &way).unwrap();
            last_noted(&stop, &events, Lsn(from), stop.end(Lsn(200))).map(|t| t.xid)
        };
        assert_eq!(noted(&Target::Xid(Xid(12)), 100), Some(Xid(12)));
        assert_eq!(noted(&Target::Lsn(Lsn(350)), 100), Some(Xid(12)), "not the one at the stop");
        // A server that is started again begins behind what an earlier replay has passed.
        assert_eq!(noted(&Target::Name("deploy".into()), 280), Some(Xid(12)));
        assert_eq!(noted(&Target::Name("deploy".into()), 300), None);
    }

    #[test]
    fn a_restore_point_is_found_by_name() {
        assert_eq!(
            resolve(&Target::Name("deploy".into()), false, &way(&events())).unwrap().end(Lsn(200)),
            Lsn(360)
        );
        assert_eq!(
            resolve(&Target::Name("other".into()), false, &way(&events())),
            Err(Miss::NotFound)
        );
    }
}
