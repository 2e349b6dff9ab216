//! What lives and what dies: a function of what is stored, the policy, the holds and a time, and of
//! nothing else.
//!
//! A *promise* is a span of time of which every transaction can be gone back to: a window of the policy, an
//! override's, a hold's. On each timeline it becomes a stretch of WAL, and for each stretch a snapshot is
//! kept that was consistent at its beginning or before, with all WAL from that snapshot's start on. Rules
//! (hourly, daily, …) keep single snapshots, each with the WAL between its start and its stop.
//!
//! Everything is ordered by system identifier, time and LSN. Where something is not known, it lives.

mod lineage;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use holdfast_postgres::{SegmentNo, SystemIdentifier, TimelineId};

use super::holds::{Held, Hold};
use super::policy::Policy;
use super::reason::Reason;
use crate::archive::ArchiveView;
use crate::archive::ledger::SnapshotSpan;
use lineage::Open;

/// When the first and the last transaction of a segment ended, by the times in its WAL.
pub(super) type Times = BTreeMap<(TimelineId, SegmentNo), (DateTime<Utc>, DateTime<Utc>)>;

/// A snapshot, as far as it matters here.
#[derive(Debug, Clone)]
pub(super) struct SnapshotFacts {
    pub(super) id: String,
    pub(super) span: SnapshotSpan,
    pub(super) started_at: DateTime<Utc>,
    pub(super) finished_at: DateTime<Utc>,
    pub(super) bytes_added: u64,
    /// Pages in it were damaged at the source: it restores with a limit.
    pub(super) degraded: bool,
}

/// Everything of one system identifier.
pub(super) struct Lineage<'a> {
    pub(super) view: &'a ArchiveView,
    pub(super) times: Times,
    pub(super) snapshots: Vec<SnapshotFacts>,
    /// Snapshots of other clusters that need this WAL: the cluster, and where their own WAL lies.
    pub(super) others: Vec<(String, SnapshotSpan)>,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) lineages: &'a [Lineage<'a>],
    /// The system identifier that the cluster has now.
    pub(super) current: SystemIdentifier,
    pub(super) policy: &'a Policy,
    pub(super) holds: &'a [Hold],
    pub(super) now: DateTime<Utc>,
}

/// Whether something is kept, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) kept: bool,
    pub(super) reasons: BTreeSet<Reason>,
}

/// What was decided of one system identifier.
#[derive(Debug)]
pub(super) struct Decided {
    /// In the order of the lineage's snapshots.
    pub(super) snapshots: Vec<Fate>,
    pub(super) wal: BTreeMap<(TimelineId, SegmentNo), Fate>,
}

/// What was decided.
#[derive(Debug)]
pub(super) struct Decision {
    /// In the order of the lineages.
    pub(super) lineages: Vec<Decided>,
    /// Bytes by which what has to be kept exceeds the size cap.
    pub(super) over_cap: u64,
    pub(super) warnings: Vec<String>,
}

/// A span of time of which every transaction can be gone back to.
struct Promise {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    reason: Reason,
}

/// Decides.
pub(super) fn decide(question: &Question<'_>) -> Decision {
    let mut open: Vec<Open<'_>> = question.lineages.iter().map(Open::new).collect();
    let mut warnings = unknown_holds(question);
    if open.iter().all(|lineage| lineage.usable.is_empty()) {
        if open.iter().any(|lineage| !lineage.facts.snapshots.is_empty()) {
            warnings.push(
                "no snapshot has all the WAL that it needs: nothing is taken away".to_owned(),
            );
        }
        let lineages = open.into_iter().map(Open::all_kept).collect();
        return Decision { lineages, over_cap: 0, warnings };
    }
    let promises = promises(question);
    for lineage in &mut open {
        lineage.apply_rules(question);
        lineage.apply_holds(question.holds);
        for promise in &promises {
            lineage.keep(promise, question.now);
        }
        lineage.spare_others();
        lineage.spare_unknown(question.now, &mut warnings);
    }
    keep_newest(&mut open, question.current);
    for lineage in &mut open {
        lineage.keep_own_wal();
    }
    let over_cap = question.policy.size_cap.map_or(0, |cap| shed(&mut open, cap));
    if over_cap > 0 {
        warnings.push(format!(
            "what windows, holds and the way back to now need is {over_cap} bytes larger than the size cap"
        ));
    }
    let lineages = open.into_iter().map(Open::settle).collect();
    Decision { lineages, over_cap, warnings }
}

fn unknown_holds(question: &Question<'_>) -> Vec<String> {
    let known = |id: &str| {
        question.lineages.iter().any(|lineage| lineage.snapshots.iter().any(|s| s.id == id))
    };
    question
        .holds
        .iter()
        .filter_map(|hold| match hold.on {
            Held::Snapshot(id) if !known(&id.to_string()) => {
                Some(format!("hold {} is on snapshot {id}, which is not there", hold.id))
            }
            _ => None,
        })
        .collect()
}

fn promises(question: &Question<'_>) -> Vec<Promise> {
    let (policy, now) = (question.policy, question.now);
    let mut promises = Vec::new();
    if let Some(span) = policy.keep.any_point {
        // A server whose clock is ahead has committed in what is the future here.
        let to = DateTime::<Utc>::MAX_UTC;
        promises.push(Promise { from: span.before(now), to, reason: Reason::Window(None) });
    }
    for each in &policy.overrides {
        if let Some(span) = each.keep.any_point {
            let reason = Reason::Window(Some(each.name.clone()));
            // "to" is the first moment that it does not cover; a moment more costs nothing.
            promises.push(Promise { from: each.from.max(span.before(now)), to: each.to, reason });
        }
    }
    for hold in question.holds {
        if let Held::Between { from, to } = hold.on {
            promises.push(Promise { from, to, reason: reason_of(hold) });
        }
    }
    promises.retain(|promise| promise.from <= promise.to);
    promises
}

fn reason_of(hold: &Hold) -> Reason {
    Reason::Hold(hold.id.to_string(), hold.reason.clone())
}

/// The way back to now is kept: the newest snapshot on the way to the newest timeline of the system that
/// answers now, and the newest there is at all.
fn keep_newest(open: &mut [Open<'_>], current: SystemIdentifier) {
    let mut newest: Vec<(usize, usize)> = Vec::new();
    for (at, lineage) in open.iter().enumerate() {
        if lineage.facts.view.system == current {
            newest.extend(lineage.newest_on_newest().into_iter().map(|n| (at, n)));
        }
    }
    let all = || {
        open.iter()
            .enumerate()
            .flat_map(|(at, lineage)| lineage.usable.iter().map(move |&n| (at, n)))
    };
    let time = |&(at, n): &(usize, usize)| {
        let this = open[at].snapshot(n);
        (this.started_at, this.span.start)
    };
    newest.extend(all().max_by_key(time));
    newest.extend(all().filter(|&(at, n)| !open[at].snapshot(n).degraded).max_by_key(time));
    for (at, n) in newest {
        open[at].keep_with_tail(n);
    }
}

/// Lets go of snapshots that only rules keep, the oldest first, until what is kept fits. Gives by how much
/// it does not.
fn shed(open: &mut [Open<'_>], cap: u64) -> u64 {
    let mut candidates: Vec<(DateTime<Utc>, usize, usize)> = Vec::new();
    for (at, lineage) in open.iter().enumerate() {
        for (n, reasons) in lineage.snapshots.iter().enumerate() {
            if !reasons.is_empty() && reasons.iter().all(|r| matches!(r, Reason::Rule(..))) {
                candidates.push((lineage.snapshot(n).started_at, at, n));
            }
        }
    }
    candidates.sort_unstable();
    let mut kept = open.iter().map(Open::kept_bytes).fold(0, u64::saturating_add);
    for (_, at, n) in candidates {
        if kept <= cap {
            break;
        }
        kept = kept.saturating_sub(open[at].shed(n));
    }
    kept.saturating_sub(cap)
}

#[cfg(test)]
mod tests;
