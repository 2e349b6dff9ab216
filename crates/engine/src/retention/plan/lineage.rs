//! One system identifier while it is decided: what rules, holds and promises need of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use holdfast_postgres::{Lsn, SegmentNo, TimelineId};

use super::{Decided, Fate, Lineage, Promise, Question, SnapshotFacts, reason_of};
use crate::archive::Leg;
use crate::archive::ledger::{is_on, wal_is_whole};
use crate::retention::holds::{Held, Hold};
use crate::retention::policy::Every;
use crate::retention::reason::Reason;

/// WAL that is younger may be needed by a backup that still runs.
const YOUNG_WAL: TimeDelta = TimeDelta::days(1);
/// A snapshot whose WAL is not there yet may get it: from a spool, or by `wal-put`.
const YOUNG_BROKEN: TimeDelta = TimeDelta::days(7);

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
pub(super) struct Open<'a> {
    pub(super) facts: &'a Lineage<'a>,
    /// The way to each timeline; those whose ancestry is not archived are left out.
    ways: BTreeMap<TimelineId, Vec<Leg>>,
    /// Snapshots with all the WAL that they need themselves, by where they start.
    pub(super) usable: Vec<usize>,
    pub(super) snapshots: Vec<BTreeSet<Reason>>,
    wal: BTreeMap<(TimelineId, SegmentNo), BTreeSet<Reason>>,
    shed: BTreeSet<usize>,
}

impl<'a> Open<'a> {
    pub(super) fn new(facts: &'a Lineage<'a>) -> Self {
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

    pub(super) fn snapshot(&self, n: usize) -> &'a SnapshotFacts {
        &self.facts.snapshots[n]
    }

    /// Usable snapshots on a way, by where they start.
    fn on(&self, legs: &[Leg]) -> Vec<usize> {
        self.usable.iter().copied().filter(|&n| is_on(legs, self.snapshot(n).span)).collect()
    }

    /// The newest snapshot of each hour, day and so on; on each timeline by itself, since one that was
    /// left must not stand for the one that goes on.
    pub(super) fn apply_rules(&mut self, question: &Question<'_>) {
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

    pub(super) fn apply_holds(&mut self, holds: &[Hold]) {
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
    pub(super) fn keep(&mut self, promise: &Promise, now: DateTime<Utc>) {
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
    pub(super) fn spare_others(&mut self) {
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
    pub(super) fn spare_unknown(&mut self, now: DateTime<Utc>, warnings: &mut Vec<String>) {
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
    pub(super) fn newest_on_newest(&self) -> Vec<usize> {
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
    pub(super) fn keep_with_tail(&mut self, n: usize) {
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
    pub(super) fn keep_own_wal(&mut self) {
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

    pub(super) fn kept_bytes(&self) -> u64 {
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
    pub(super) fn shed(&mut self, n: usize) -> u64 {
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

    pub(super) fn all_kept(self) -> Decided {
        let fate = || Fate { kept: true, reasons: BTreeSet::from([Reason::NoWayBack]) };
        Decided {
            snapshots: self.snapshots.iter().map(|_| fate()).collect(),
            wal: self.wal.into_keys().map(|key| (key, fate())).collect(),
        }
    }

    /// What has no reason to live dies, and why.
    pub(super) fn settle(self) -> Decided {
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
