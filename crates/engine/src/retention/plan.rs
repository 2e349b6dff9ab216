//! What lives and what dies: a function of what is stored, the policy, the holds and a time, and of
//! nothing else.
//!
//! A *promise* is a span of time of which every transaction can be gone back to: a window of the policy, an
//! override's, a hold's. On each timeline it becomes a stretch of WAL, and for each stretch a snapshot is
//! kept that was consistent at its beginning or before, with all WAL from that snapshot's start on. Rules
//! (hourly, daily, …) keep single snapshots, each with the WAL between its start and its stop.
//!
//! Everything is ordered by system identifier, time and LSN. Where something is not known, it lives.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use holdfast_postgres::{Lsn, SegmentNo, SystemIdentifier, TimelineId};

use super::holds::{Held, Hold};
use super::policy::{Every, Policy};
use super::reason::Reason;
use crate::archive::ledger::{SnapshotSpan, is_on, wal_is_whole};
use crate::archive::{ArchiveView, Leg};

/// WAL that is younger may be needed by a backup that still runs.
const YOUNG_WAL: TimeDelta = TimeDelta::days(1);
/// A snapshot whose WAL is not there yet may get it: from a spool, or by `wal-put`.
const YOUNG_BROKEN: TimeDelta = TimeDelta::days(7);

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

/// Which of equal spans a time falls into.
fn bucket(every: Every, at: DateTime<Utc>) -> i64 {
    let days = at.timestamp().div_euclid(86_400);
    match every {
        Every::Hour => at.timestamp().div_euclid(3600),
        Every::Day => days,
        // 1970-01-01 was a Thursday.
        Every::Week => (days + 3).div_euclid(7),
        Every::Month => i64::from(at.year()) * 12 + i64::from(at.month0()),
        Every::Year => i64::from(at.year()),
    }
}

/// A lineage while it is decided.
struct Open<'a> {
    facts: &'a Lineage<'a>,
    /// The way to each timeline; those whose ancestry is not archived are left out.
    ways: BTreeMap<TimelineId, Vec<Leg>>,
    /// Snapshots with all the WAL that they need themselves, by where they start.
    usable: Vec<usize>,
    snapshots: Vec<BTreeSet<Reason>>,
    wal: BTreeMap<(TimelineId, SegmentNo), BTreeSet<Reason>>,
    shed: BTreeSet<usize>,
}

impl<'a> Open<'a> {
    fn new(facts: &'a Lineage<'a>) -> Self {
        let view = facts.view;
        let timelines: BTreeSet<_> =
            view.timelines().chain(view.histories.keys().copied()).collect();
        let mut usable: Vec<_> = (0..facts.snapshots.len())
            .filter(|&n| wal_is_whole(view, facts.snapshots[n].span))
            .collect();
        usable.sort_by_key(|&n| (facts.snapshots[n].span.start, facts.snapshots[n].started_at));
        let wal = view
            .timelines()
            .flat_map(|t| view.segments(t).map(move |(n, _)| ((t, n), BTreeSet::new())))
            .collect();
        Self {
            facts,
            ways: timelines.into_iter().filter_map(|t| Some((t, view.path(t).ok()?))).collect(),
            usable,
            snapshots: vec![BTreeSet::new(); facts.snapshots.len()],
            wal,
            shed: BTreeSet::new(),
        }
    }

    fn snapshot(&self, n: usize) -> &'a SnapshotFacts {
        &self.facts.snapshots[n]
    }

    /// Usable snapshots on a way, by where they start.
    fn on(&self, legs: &[Leg]) -> Vec<usize> {
        self.usable.iter().copied().filter(|&n| is_on(legs, self.snapshot(n).span)).collect()
    }

    /// The newest snapshot of each hour, day and so on; on each timeline by itself, since one that was
    /// left must not stand for the one that goes on.
    fn apply_rules(&mut self, question: &Question<'_>) {
        let policy = question.policy;
        let always = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, None, &policy.keep);
        let dated = policy.overrides.iter().map(|o| (o.from, o.to, Some(o.name.clone()), &o.keep));
        for (from, to, name, keep) in std::iter::once(always).chain(dated) {
            for (every, span) in keep.rules() {
                let horizon = span.before(question.now);
                let mut newest = BTreeMap::<(TimelineId, i64), usize>::new();
                for &n in &self.usable {
                    let this = self.snapshot(n);
                    if this.started_at < from || this.started_at >= to {
                        continue;
                    }
                    let key = (this.span.timeline, bucket(every, this.started_at));
                    let best = newest.entry(key).or_insert(n);
                    if self.rank(n) > self.rank(*best) {
                        *best = n;
                    }
                }
                for n in newest.into_values() {
                    if self.snapshot(n).started_at >= horizon {
                        self.snapshots[n].insert(Reason::Rule(every, name.clone()));
                    }
                }
            }
        }
    }

    /// A whole one before one with damaged pages, then the newer.
    fn rank(&self, n: usize) -> (bool, DateTime<Utc>, Lsn, &'a str) {
        let this = self.snapshot(n);
        (!this.degraded, this.started_at, this.span.start, &this.id)
    }

    fn apply_holds(&mut self, holds: &[Hold]) {
        for (facts, reasons) in self.facts.snapshots.iter().zip(&mut self.snapshots) {
            for hold in holds {
                let held = match hold.on {
                    Held::Snapshot(id) => facts.id == id.to_string(),
                    Held::Between { from, to } => {
                        facts.started_at <= to && facts.finished_at >= from
                    }
                };
                if held {
                    reasons.insert(reason_of(hold));
                }
            }
        }
    }

    /// The segments of a timeline with the times between which anything in them can have ended: where
    /// nothing did, the last time before and the first after.
    fn spans(&self, timeline: TimelineId, now: DateTime<Utc>) -> Vec<TimedSegment> {
        let mut spans: Vec<TimedSegment> = Vec::new();
        let mut latest = DateTime::<Utc>::MIN_UTC;
        for (number, stored) in self.facts.view.segments(timeline) {
            let known = self.facts.times.get(&(timeline, number)).copied();
            let (from, to) = known.map_or((latest, None), |(from, to)| (from, Some(to)));
            latest = latest.max(to.unwrap_or(latest));
            spans.push(TimedSegment { number, end: stored.end(), from, to: to.unwrap_or(now) });
        }
        let mut next = now;
        for span in spans.iter_mut().rev() {
            match self.facts.times.get(&(timeline, span.number)) {
                Some((from, _)) => next = *from,
                None => span.to = next.max(span.from),
            }
        }
        spans
    }

    /// Keeps what a promise needs.
    fn keep(&mut self, promise: &Promise, now: DateTime<Utc>) {
        for (timeline, legs) in self.ways.clone() {
            let spans = self.spans(timeline, now);
            let meets = |s: &&TimedSegment| s.from <= promise.to && s.to >= promise.from;
            let (Some(first), Some(last)) =
                (spans.iter().find(meets), spans.iter().rev().find(meets))
            else {
                continue;
            };
            let from = self.facts.view.segment_size.start_of(first.number);
            let on = self.on(&legs);
            // Where only a snapshot with damaged pages leads, that one is kept as well.
            let whole: Vec<_> =
                on.iter().copied().filter(|&n| !self.snapshot(n).degraded).collect();
            self.cover(&legs, &whole, from, last.end, &promise.reason);
            if whole.len() < on.len() {
                self.cover(&legs, &on, from, last.end, &promise.reason);
            }
        }
    }

    /// Keeps snapshots out of `on` and WAL so that every place of `[from, to)` along `legs` can be gone
    /// to that can be now.
    fn cover(&mut self, legs: &[Leg], on: &[usize], from: Lsn, to: Lsn, reason: &Reason) {
        let mut at = from;
        while at < to {
            let Some((base, reach)) = self.base(legs, on, at, to) else { return };
            let span = self.snapshot(base).span;
            self.snapshots[base].insert(reason.clone());
            self.mark(legs, span.start, reach.min(to).max(span.stop), reason);
            at = reach;
        }
    }

    /// The snapshot from which one gets past `at`, and how far: the last to begin of those that were
    /// consistent there or before, since none reaches farther; else the first that is consistent later.
    fn base(&self, legs: &[Leg], on: &[usize], at: Lsn, to: Lsn) -> Option<(usize, Lsn)> {
        let reach = |n: usize| self.facts.view.reachable_from(legs, self.snapshot(n).span.start);
        let before = on.iter().rev().copied().find(|&n| self.snapshot(n).span.stop <= at);
        if let Some(found) = before.map(|n| (n, reach(n))).filter(|(_, reach)| *reach > at) {
            return Some(found);
        }
        let mut after: Vec<_> = on
            .iter()
            .copied()
            .filter(|&n| self.snapshot(n).span.stop > at && self.snapshot(n).span.stop <= to)
            .collect();
        after.sort_by_key(|&n| self.snapshot(n).span.stop);
        after
            .into_iter()
            .map(|n| (n, reach(n)))
            .find(|(n, reach)| *reach >= self.snapshot(*n).span.stop)
    }

    /// Keeps the files that recovery asks for between two places along `legs`.
    fn mark(&mut self, legs: &[Leg], from: Lsn, to: Lsn, reason: &Reason) {
        let size = self.facts.view.segment_size;
        let last = size.segment_of(Lsn(to.0.saturating_sub(1)).max(from));
        for number in size.segment_of(from).0..=last.0 {
            let number = SegmentNo(number);
            if let Some(file) = self.facts.view.file_for(legs, number)
                && let Some(reasons) = self.wal.get_mut(&(file.timeline, number))
            {
                reasons.insert(reason.clone());
            }
        }
    }

    /// WAL that a snapshot of another cluster may need: all from its start on.
    fn spare_others(&mut self) {
        let size = self.facts.view.segment_size;
        for (cluster, span) in &self.facts.others {
            for ((_, number), reasons) in &mut self.wal {
                if size.end_of(*number) > span.start {
                    reasons.insert(Reason::OtherCluster(cluster.clone()));
                }
            }
        }
    }

    /// WAL of which it is not known, or not yet, what needs it.
    fn spare_unknown(&mut self, now: DateTime<Utc>, warnings: &mut Vec<String>) {
        let timelines: Vec<_> = self.facts.view.timelines().collect();
        for timeline in timelines {
            let known = self.ways.contains_key(&timeline);
            if !known {
                warnings.push(format!(
                    "the ancestry of timeline {timeline} is not archived: all of its WAL is kept"
                ));
            }
            for span in self.spans(timeline, now) {
                let reason = match known {
                    false => Reason::AncestryMissing,
                    true if span.to >= now - YOUNG_WAL => Reason::Young,
                    true => continue,
                };
                self.wal.entry((timeline, span.number)).or_default().insert(reason);
            }
        }
        for (facts, reasons) in self.facts.snapshots.iter().zip(&mut self.snapshots) {
            if !wal_is_whole(self.facts.view, facts.span) && facts.started_at >= now - YOUNG_BROKEN
            {
                reasons.insert(Reason::Young);
            }
        }
    }

    /// The newest usable snapshots on the way to the newest timeline, and to the newest of which there is
    /// WAL: of each the last one, and the last one without damaged pages.
    fn newest_on_newest(&self) -> Vec<usize> {
        let view = self.facts.view;
        let timelines = [view.newest_timeline(), view.frontier().map(|(timeline, _)| timeline)];
        let mut newest = Vec::new();
        for legs in timelines.into_iter().flatten().filter_map(|t| self.ways.get(&t)) {
            let on = self.on(legs);
            newest.extend(on.last().copied());
            newest.extend(on.iter().rev().copied().find(|&n| !self.snapshot(n).degraded));
        }
        newest
    }

    /// Keeps a snapshot and the WAL behind it on every way on which no newer one is.
    fn keep_with_tail(&mut self, n: usize) {
        self.snapshots[n].insert(Reason::Newest);
        for legs in self.ways.clone().into_values() {
            let span = self.snapshot(n).span;
            let on = self.on(&legs);
            let newest = on.last() == Some(&n)
                || on.iter().rev().find(|&&m| !self.snapshot(m).degraded) == Some(&n);
            if newest {
                let reach = self.facts.view.reachable_from(&legs, span.start);
                self.mark(&legs, span.start, reach, &Reason::Newest);
            }
        }
    }

    /// The WAL between the start and the stop of every snapshot that is kept.
    fn keep_own_wal(&mut self) {
        for n in 0..self.snapshots.len() {
            if !self.snapshots[n].is_empty() {
                let own = Reason::Snapshot(self.snapshot(n).id.clone());
                for key in self.own_wal(n) {
                    if let Some(reasons) = self.wal.get_mut(&key) {
                        reasons.insert(own.clone());
                    }
                }
            }
        }
    }

    fn own_wal(&self, n: usize) -> impl Iterator<Item = (TimelineId, SegmentNo)> + use<> {
        let (size, span) = (self.facts.view.segment_size, self.snapshot(n).span);
        let last = size.segment_of(Lsn(span.stop.0.saturating_sub(1)).max(span.start));
        (size.segment_of(span.start).0..=last.0).map(move |n| (span.timeline, SegmentNo(n)))
    }

    fn kept_bytes(&self) -> u64 {
        let snapshots = self.facts.snapshots.iter().zip(&self.snapshots);
        let snapshots = snapshots
            .filter(|(_, reasons)| !reasons.is_empty())
            .map(|(facts, _)| facts.bytes_added);
        let wal = self.wal.iter().filter(|(_, reasons)| !reasons.is_empty());
        let wal = wal.map(|((timeline, number), _)| {
            self.facts.view.segment(*timeline, *number).map_or(0, |stored| stored.stored)
        });
        snapshots.chain(wal).fold(0, u64::saturating_add)
    }

    /// Lets go of a snapshot and of the WAL that only it needs; gives how many bytes they have.
    fn shed(&mut self, n: usize) -> u64 {
        self.snapshots[n].clear();
        self.shed.insert(n);
        let mut freed = self.snapshot(n).bytes_added;
        let own = Reason::Snapshot(self.snapshot(n).id.clone());
        for (timeline, number) in self.own_wal(n) {
            if let Some(reasons) = self.wal.get_mut(&(timeline, number))
                && reasons.remove(&own)
                && reasons.is_empty()
            {
                let stored = self.facts.view.segment(timeline, number);
                freed = freed.saturating_add(stored.map_or(0, |stored| stored.stored));
            }
        }
        freed
    }

    fn all_kept(self) -> Decided {
        let fate = || Fate { kept: true, reasons: BTreeSet::from([Reason::NoWayBack]) };
        Decided {
            snapshots: self.snapshots.iter().map(|_| fate()).collect(),
            wal: self.wal.into_keys().map(|key| (key, fate())).collect(),
        }
    }

    /// What has no reason to live dies, and why.
    fn settle(self) -> Decided {
        let size = self.facts.view.segment_size;
        let usable: BTreeSet<_> = self.usable.iter().copied().collect();
        let first_on: BTreeMap<TimelineId, Lsn> = self
            .ways
            .iter()
            .filter_map(|(timeline, legs)| {
                Some((*timeline, self.snapshot(*self.on(legs).first()?).span.start))
            })
            .collect();
        let fate = |reasons: BTreeSet<Reason>, otherwise: Reason| {
            if reasons.is_empty() {
                Fate { kept: false, reasons: BTreeSet::from([otherwise]) }
            } else {
                Fate { kept: true, reasons }
            }
        };
        let snapshots = self.snapshots.into_iter().enumerate().map(|(n, reasons)| {
            let otherwise = if self.shed.contains(&n) {
                Reason::SizeCap
            } else if usable.contains(&n) {
                Reason::Expired
            } else {
                Reason::Broken
            };
            fate(reasons, otherwise)
        });
        let wal = self.wal.into_iter().map(|((timeline, number), reasons)| {
            let led_to = first_on.get(&timeline).is_some_and(|at| *at < size.end_of(number));
            let otherwise = if led_to { Reason::Expired } else { Reason::Unreachable };
            ((timeline, number), fate(reasons, otherwise))
        });
        Decided { snapshots: snapshots.collect(), wal: wal.collect() }
    }
}

/// A segment with the times between which anything in it can have ended.
struct TimedSegment {
    number: SegmentNo,
    end: Lsn,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
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
