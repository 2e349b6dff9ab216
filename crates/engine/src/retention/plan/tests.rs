#![allow(clippy::unwrap_used)]
use chrono::TimeDelta;
use holdfast_postgres::{
    Lsn, PgTimestamp, RecordSpan, TimelineHistory, TimelineSwitch, WalSegmentSize, Xid,
};
use holdfast_repository::ObjectKind;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::archive::ledger::{is_on, wal_is_whole};
use crate::archive::{Piece, SegmentIndex, TransactionEnd, TransactionKind};
use crate::retention::Span;
use crate::retention::policy::{Every, Keep, Override};

const SEGMENT: u64 = 1 << 20;
/// One segment is written in this time.
const PACE: i64 = 6 * 3600;

fn timeline(number: usize) -> TimelineId {
    TimelineId::new(u32::try_from(number).unwrap()).unwrap()
}

fn size() -> WalSegmentSize {
    WalSegmentSize::new(SEGMENT).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn epoch() -> DateTime<Utc> {
    at("2026-01-01T00:00:00Z")
}

/// When the server wrote a place, with commit times that do not follow the order of the WAL.
fn written(begin: DateTime<Utc>, lsn: Lsn) -> DateTime<Utc> {
    let jitter = i64::try_from(lsn.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54).unwrap() * 3;
    begin + TimeDelta::seconds(i64::try_from(lsn.0 / 64).unwrap() * PACE / 16384 + jitter)
}

#[derive(Debug, Clone)]
struct Commit {
    timeline: TimelineId,
    lsn: Lsn,
    time: DateTime<Utc>,
}

type Commits = Vec<(Lsn, DateTime<Utc>)>;

/// A system's archive in memory.
#[derive(Debug, Clone)]
struct World {
    system: SystemIdentifier,
    histories: BTreeMap<TimelineId, TimelineHistory>,
    /// The end of what is held of each segment, and the commits in it.
    segments: BTreeMap<(TimelineId, SegmentNo), (Lsn, Commits)>,
    snapshots: Vec<SnapshotFacts>,
    others: Vec<(String, SnapshotSpan)>,
    commits: Vec<Commit>,
}

impl World {
    fn new(system: u64) -> Self {
        Self {
            system: SystemIdentifier(system),
            histories: BTreeMap::new(),
            segments: BTreeMap::new(),
            snapshots: Vec::new(),
            others: Vec::new(),
            commits: Vec::new(),
        }
    }

    /// WAL of a timeline from `from` to `to`, in which everything `every` bytes a transaction commits.
    fn write(&mut self, number: usize, begin: DateTime<Utc>, from: Lsn, to: Lsn, every: u64) {
        let timeline = timeline(number);
        let mut start = size().floor(from);
        while start < to {
            let end = start.saturating_add(SEGMENT).min(to);
            let commits: Vec<_> = (start.0..end.0)
                .step_by(usize::try_from(every).unwrap())
                .map(|lsn| Lsn(lsn + 40))
                .filter(|lsn| lsn.0 + 40 <= end.0)
                .map(|lsn| (lsn, written(begin, lsn)))
                .collect();
            // The first segment of a child begins with what its parent wrote.
            let own = commits.iter().filter(|(lsn, _)| *lsn >= from);
            self.commits.extend(own.map(|&(lsn, time)| Commit { timeline, lsn, time }));
            self.segments.insert((timeline, size().segment_of(start)), (end, commits));
            start = end;
        }
    }

    fn fork(&mut self, child: usize, parent: usize, switch: Lsn) {
        let mut switches =
            self.histories.get(&timeline(parent)).map_or_else(Vec::new, |h| h.switches.clone());
        switches.push(TimelineSwitch {
            parent: timeline(parent),
            switch_lsn: switch,
            reason: String::new(),
        });
        let history = TimelineHistory { timeline: timeline(child), switches };
        self.histories.insert(timeline(child), history);
    }

    fn snapshot(&mut self, number: usize, begin: DateTime<Utc>, start: u64, stop: u64) -> usize {
        let n = self.snapshots.len();
        self.snapshots.push(SnapshotFacts {
            id: Uuid::from_u128(u128::from(self.system.0) << 64 | n as u128).to_string(),
            span: SnapshotSpan { timeline: timeline(number), start: Lsn(start), stop: Lsn(stop) },
            started_at: written(begin, Lsn(start)),
            finished_at: written(begin, Lsn(stop)).max(written(begin, Lsn(start))),
            bytes_added: 5_000_000,
            degraded: false,
        });
        n
    }

    fn view(&self) -> ArchiveView {
        let pieces = self.segments.iter().map(|((timeline, number), (end, commits))| {
            let start = size().start_of(*number);
            let transactions = commits.iter().map(|(lsn, time)| TransactionEnd {
                kind: TransactionKind::Commit,
                span: RecordSpan { start: *lsn, end: lsn.saturating_add(40) },
                xid: Xid(7),
                time: PgTimestamp::from_chrono(*time),
            });
            let index = SegmentIndex {
                timeline: *timeline,
                segment: *number,
                segment_size: size(),
                from: start,
                to: *end,
                first_record: None,
                last_record: None,
                transactions: transactions.collect(),
                points: Vec::new(),
                limits: Vec::new(),
                tablespaces: Vec::new(),
                markers: None,
                blake3: None,
            };
            (Piece { path: String::new(), kind: ObjectKind::WalSegment, index }, 100_000)
        });
        let mut view = ArchiveView::of_pieces(self.system, size(), pieces.collect());
        view.histories.clone_from(&self.histories);
        view
    }

    fn times(&self) -> Times {
        let range = |commits: &Commits| {
            let times = || commits.iter().map(|(_, time)| *time);
            Some((times().min()?, times().max()?))
        };
        self.segments.iter().filter_map(|(key, (_, c))| Some((*key, range(c)?))).collect()
    }

    /// What is left when everything that is not kept is gone.
    fn without(&self, decided: &Decided) -> Self {
        let mut left = self.clone();
        left.segments.retain(|key, _| decided.wal[key].kept);
        let mut fates = decided.snapshots.iter();
        left.snapshots.retain(|_| fates.next().unwrap().kept);
        left
    }

    /// What can be gone back to.
    fn ways_back(&self) -> WaysBack {
        let view = self.view();
        let mut ways = BTreeMap::new();
        for timeline in self.commits.iter().map(|c| c.timeline).collect::<BTreeSet<_>>() {
            let legs = view.path(timeline).unwrap();
            let on = self.snapshots.iter().filter(|s| is_on(&legs, s.span));
            let usable = on.filter(|s| wal_is_whole(&view, s.span));
            let reaches =
                usable.map(|s| (s.span.stop, view.reachable_from(&legs, s.span.start), s.degraded));
            ways.insert(timeline, reaches.collect());
        }
        WaysBack(ways)
    }
}

/// By timeline, of each snapshot on the way to it: where it is consistent, how far it leads, and whether
/// its pages are damaged.
struct WaysBack(BTreeMap<TimelineId, Vec<(Lsn, Lsn, bool)>>);

impl WaysBack {
    /// Whether a restore reaches a commit, from a whole snapshot or any.
    fn reach(&self, commit: &Commit, whole: bool) -> bool {
        self.0[&commit.timeline].iter().any(|(stop, reach, degraded)| {
            !(whole && *degraded) && *stop <= commit.lsn && *reach >= commit.lsn.saturating_add(40)
        })
    }

    /// How far any snapshot leads on the way to a timeline.
    fn farthest(&self, timeline: TimelineId) -> Option<Lsn> {
        self.0[&timeline].iter().map(|way| way.1).max()
    }
}

fn with_lineages<T>(worlds: &[World], use_it: impl FnOnce(&[Lineage<'_>]) -> T) -> T {
    let views: Vec<_> = worlds.iter().map(World::view).collect();
    let lineages: Vec<_> = worlds
        .iter()
        .zip(&views)
        .map(|(world, view)| Lineage {
            view,
            times: world.times(),
            snapshots: world.snapshots.clone(),
            others: world.others.clone(),
        })
        .collect();
    use_it(&lineages)
}

fn decided(worlds: &[World], policy: &Policy, holds: &[Hold], now: DateTime<Utc>) -> Decision {
    let current = worlds.last().unwrap().system;
    with_lineages(worlds, |lineages| decide(&Question { lineages, current, policy, holds, now }))
}

fn keep(any_point: Option<u32>, daily: Option<u32>, weekly: Option<u32>) -> Policy {
    let keep = Keep {
        daily: daily.map(Span::days),
        weekly: weekly.map(Span::days),
        any_point: any_point.map(Span::days),
        ..Keep::default()
    };
    Policy { keep, ..Policy::default() }
}

fn hold(on: Held) -> Hold {
    Hold { id: Uuid::from_u128(9), on, reason: "case 12".to_owned(), placed_at: epoch() }
}

/// One timeline of `segments` segments with a snapshot at the beginning of each `every`th, in its middle.
fn line(segments: u64, every: u64) -> World {
    let mut world = World::new(7);
    world.write(1, epoch(), Lsn(SEGMENT), Lsn((segments + 1) * SEGMENT), SEGMENT / 4);
    for n in (1..=segments).step_by(usize::try_from(every).unwrap()) {
        world.snapshot(1, epoch(), n * SEGMENT + 1000, n * SEGMENT + 9000);
    }
    world
}

fn kept_snapshots(decision: &Decision) -> Vec<usize> {
    let fates = decision.lineages[0].snapshots.iter().enumerate();
    fates.filter(|(_, fate)| fate.kept).map(|(n, _)| n).collect()
}

fn kept_segments(decision: &Decision) -> Vec<u64> {
    decision.lineages[0].wal.iter().filter(|(_, f)| f.kept).map(|((_, n), _)| n.0).collect()
}

/// The snapshot before the window begins is kept, and its WAL from the segment with its start on.
#[test]
fn a_window_keeps_the_snapshot_before_it_and_everything_since() {
    // Four segments a day; a snapshot each second day.
    let world = line(80, 8);
    let now = epoch() + TimeDelta::days(20);
    let decision = decided(std::slice::from_ref(&world), &keep(Some(5), None, None), &[], now);
    let window = Reason::Window(None);
    // Ten snapshots in segments 1, 9, … 73; the window begins in segment 60.
    assert_eq!(kept_snapshots(&decision), [7, 9]);
    assert!(decision.lineages[0].snapshots[7].reasons.contains(&window));
    assert_eq!(kept_segments(&decision), (57..=80).collect::<Vec<_>>());
    let dead = &decision.lineages[0].wal[&(TimelineId::FIRST, SegmentNo(56))];
    assert_eq!(dead.reasons, BTreeSet::from([Reason::Expired]));
}

#[test]
fn a_rule_keeps_a_snapshot_with_its_own_wal_only() {
    let mut world = line(80, 4);
    // One that needs three segments.
    world.snapshots[10].span.stop = Lsn(43 * SEGMENT + 5);
    let now = epoch() + TimeDelta::days(21);
    let decision = decided(&[world], &keep(None, None, Some(365)), &[], now);
    // 2026-01-01 was a Thursday: weeks end with the snapshots of the 4th, the 11th and the 18th.
    assert_eq!(kept_snapshots(&decision), [3, 10, 17, 19]);
    let expected: Vec<u64> = [13, 41, 42, 43, 69].into_iter().chain(77..=80).collect();
    assert_eq!(kept_segments(&decision), expected);
}

#[test]
fn a_snapshot_without_its_wal_or_with_damage_does_not_satisfy_a_rule() {
    let mut world = line(40, 1);
    let now = epoch() + TimeDelta::days(30);
    // Of each day four; of the second day's the last two lack WAL, of the third's the last is damaged.
    for lost in [6, 7] {
        world.segments.remove(&(TimelineId::FIRST, SegmentNo(lost)));
    }
    world.snapshots[10].degraded = true;
    let decision = decided(&[world], &keep(None, Some(365), None), &[], now);
    let kept = kept_snapshots(&decision);
    assert!(kept.contains(&4) && !kept.contains(&5) && !kept.contains(&6), "{kept:?}");
    assert!(kept.contains(&9) && !kept.contains(&10), "{kept:?}");
    let broken = &decision.lineages[0].snapshots[5];
    assert_eq!(broken.reasons, BTreeSet::from([Reason::Broken]));
}

#[test]
fn without_any_way_back_nothing_dies() {
    let mut world = line(40, 8);
    for n in [1, 9, 17, 25, 33] {
        world.segments.remove(&(TimelineId::FIRST, SegmentNo(n)));
    }
    let now = epoch() + TimeDelta::days(3000);
    let decision = decided(&[world], &Policy::default(), &[], now);
    let fates = &decision.lineages[0];
    assert!(fates.snapshots.iter().chain(fates.wal.values()).all(|fate| fate.kept));
    assert_eq!(decision.warnings.len(), 1);
}

#[test]
fn the_newest_way_back_outlives_every_rule() {
    let world = line(40, 8);
    let now = epoch() + TimeDelta::days(3000);
    let decision = decided(&[world], &Policy::default(), &[], now);
    assert_eq!(kept_snapshots(&decision), [4]);
    assert_eq!(kept_segments(&decision), (33..=40).collect::<Vec<_>>());
}

/// June: snapshots of each hour and WAL are kept for 60 days, while May's are long gone.
#[test]
fn a_dated_override_keeps_what_was_written_in_its_days() {
    let june = Override {
        name: "June".to_owned(),
        from: epoch() + TimeDelta::days(5),
        to: epoch() + TimeDelta::days(8),
        keep: Keep {
            hourly: Some(Span::days(60)),
            any_point: Some(Span::days(60)),
            ..Keep::default()
        },
    };
    let policy = Policy { overrides: vec![june], ..keep(Some(2), None, None) };
    let world = line(160, 2);
    let kept_at = |days| {
        let now = epoch() + TimeDelta::days(days);
        decided(std::slice::from_ref(&world), &policy, &[], now)
    };
    let decision = kept_at(40);
    let rule = Reason::Rule(Every::Hour, Some("June".to_owned()));
    let fates = decision.lineages[0].snapshots.iter();
    let by_rule: Vec<_> =
        fates.enumerate().filter(|(_, f)| f.reasons.contains(&rule)).map(|(n, _)| n).collect();
    assert_eq!(by_rule, (10..16).collect::<Vec<_>>());
    let segments = kept_segments(&decision);
    assert!((19..=31).all(|n| segments.contains(&n)) && !segments.contains(&40), "{segments:?}");
    // Sixty days after its end nothing of it is kept.
    assert!(!kept_segments(&kept_at(69)).contains(&30));
}

#[test]
fn a_hold_outlives_the_policy() {
    let world = line(80, 4);
    let now = epoch() + TimeDelta::days(300);
    let one = hold(Held::Snapshot(world.snapshots[1].id.parse().unwrap()));
    let (from, to) = (epoch() + TimeDelta::days(4), epoch() + TimeDelta::days(5));
    let span = Hold { id: Uuid::from_u128(10), ..hold(Held::Between { from, to }) };
    let decision =
        decided(std::slice::from_ref(&world), &keep(Some(5), None, None), &[one, span], now);
    // The held one alone; the one before the held time and those in it; the newest.
    assert_eq!(kept_snapshots(&decision), [1, 3, 4, 19]);
    let segments = kept_segments(&decision);
    assert!(segments.contains(&5) && !segments.contains(&6) && !segments.contains(&12));
    assert!((13..=19).all(|n| segments.contains(&n)), "{segments:?}");
}

#[test]
fn a_size_cap_takes_the_oldest_that_only_rules_keep() {
    let world = line(80, 4);
    let now = epoch() + TimeDelta::days(21);
    let with = |cap| {
        let policy = Policy { size_cap: cap, ..keep(Some(3), Some(365), None) };
        decided(std::slice::from_ref(&world), &policy, &[], now)
    };
    let free = kept_snapshots(&with(None));
    let capped = with(Some(60_000_000));
    assert_eq!(capped.over_cap, 0);
    let left = kept_snapshots(&capped);
    assert_eq!(left, free[free.len() - left.len()..]);
    assert!(left.len() < free.len() && left.len() > 3, "{left:?}");
    assert_eq!(capped.lineages[0].snapshots[0].reasons, BTreeSet::from([Reason::SizeCap]));
    // What the window needs stays, and it is said that the cap cannot be met.
    let tight = with(Some(1));
    assert!(tight.over_cap > 0 && !tight.warnings.is_empty());
    assert!(kept_snapshots(&tight).len() >= 2);
}

/// Another cluster of the same system identifier: a standby that was added by itself, say.
#[test]
fn wal_that_another_clusters_snapshot_needs_is_spared() {
    let mut world = line(80, 4);
    let span = SnapshotSpan {
        timeline: TimelineId::FIRST,
        start: Lsn(30 * SEGMENT + 7),
        stop: Lsn(31 * SEGMENT),
    };
    world.others.push(("standby".to_owned(), span));
    let now = epoch() + TimeDelta::days(300);
    let decision = decided(&[world], &keep(Some(5), None, None), &[], now);
    assert_eq!(kept_segments(&decision), (30..=80).collect::<Vec<_>>());
    assert_eq!(kept_snapshots(&decision), [19]);
}

/// After pg_upgrade the old system's snapshots expire like others; until the new one has a snapshot they
/// are the way back.
#[test]
fn an_upgraded_cluster_keeps_the_old_way_back_until_there_is_a_new_one() {
    let old = line(40, 8);
    let mut new = World { system: SystemIdentifier(8), ..World::new(8) };
    let begin = epoch() + TimeDelta::days(20);
    new.write(1, begin, Lsn(SEGMENT), Lsn(30 * SEGMENT), SEGMENT / 4);
    let now = epoch() + TimeDelta::days(400);
    let policy = keep(Some(5), None, None);
    let decision = decided(&[old.clone(), new.clone()], &policy, &[], now);
    assert_eq!(kept_snapshots(&decision), [4]);
    new.snapshot(1, begin, 20 * SEGMENT + 5, 20 * SEGMENT + 900);
    let decision = decided(&[old, new], &policy, &[], now);
    assert_eq!(kept_snapshots(&decision), Vec::<usize>::new());
    assert!(decision.lineages[1].snapshots[0].reasons.contains(&Reason::Newest));
}

#[test]
fn a_timeline_without_its_ancestry_is_left_alone() {
    let mut world = line(80, 4);
    world.write(3, epoch(), Lsn(20 * SEGMENT + 100), Lsn(24 * SEGMENT), SEGMENT / 4);
    let now = epoch() + TimeDelta::days(300);
    let decision = decided(&[world], &keep(Some(5), None, None), &[], now);
    let fates = &decision.lineages[0].wal;
    let left: Vec<_> = fates.iter().filter(|((t, _), f)| t.get() == 3 && f.kept).collect();
    assert_eq!(left.len(), 4);
    assert!(decision.warnings[0].contains("timeline 3"), "{:?}", decision.warnings);
    // The newest snapshot on the timelines that are known is kept all the same.
    assert_eq!(kept_snapshots(&decision), [19]);
}

fn span() -> impl Strategy<Value = Option<Span>> {
    proptest::option::of((1_u32..40).prop_map(Span::days))
}

fn keeps() -> impl Strategy<Value = Keep> {
    (span(), span(), span(), span(), span()).prop_map(
        |(hourly, daily, weekly, monthly, any_point)| Keep {
            hourly,
            daily,
            weekly,
            monthly,
            yearly: None,
            any_point,
        },
    )
}

fn policies() -> impl Strategy<Value = Policy> {
    let dated = (0_i64..40, 1_i64..10, keeps());
    (keeps(), proptest::option::of(dated), proptest::option::of(5_000_000_u64..200_000_000))
        .prop_map(|(keep, dated, size_cap)| {
            let overrides = dated.into_iter().map(|(from, days, keep)| Override {
                name: "peak".to_owned(),
                from: epoch() + TimeDelta::days(from),
                to: epoch() + TimeDelta::days(from + days),
                keep,
            });
            Policy { keep, size_cap, overrides: overrides.collect(), ..Policy::default() }
        })
}

/// A system with forks in the middle of segments, holes, and snapshots anywhere.
fn worlds(system: u64, begin: DateTime<Utc>) -> impl Strategy<Value = World> {
    let forks = proptest::collection::vec((any::<u16>(), 1..20 * SEGMENT, 3_u64..25), 0..4);
    let holes = proptest::collection::vec((1..=4_usize, 1_u64..60), 0..5);
    let snapshots = proptest::collection::vec(
        (1..=4_usize, 0..40 * SEGMENT, 1..3 * SEGMENT, proptest::bool::weighted(0.2)),
        0..16,
    );
    (10_u64..60, forks, holes, snapshots, 1_u64..6).prop_map(
        move |(length, forks, holes, snapshots, every)| {
            let mut world = World::new(system);
            let mut ends = vec![(Lsn(SEGMENT), Lsn((length + 1) * SEGMENT - SEGMENT / 3))];
            let every = every * SEGMENT / 5 + 777;
            world.write(1, begin, ends[0].0, ends[0].1, every);
            for (parent, ahead, length) in forks {
                let parent = usize::from(parent) % ends.len();
                let (from, to) = ends[parent];
                let switch = Lsn((from.0 + ahead).min(to.0 - 1));
                ends.push((switch, Lsn(switch.0 + length * SEGMENT)));
                world.fork(ends.len(), parent + 1, switch);
                world.write(ends.len(), begin, switch, Lsn(switch.0 + length * SEGMENT), every);
            }
            for (timeline_number, number) in holes {
                world.segments.remove(&(timeline(timeline_number), SegmentNo(number)));
            }
            for (number, ahead, length, degraded) in snapshots {
                let number = number.min(ends.len());
                let (from, to) = ends[number - 1];
                let start = (from.0 + ahead).min(to.0 - 1);
                let n = world.snapshot(number, begin, start, (start + length).min(to.0));
                world.snapshots[n].degraded = degraded;
            }
            world
        },
    )
}

/// Whether the policy or a hold promises a time.
fn promised(policy: &Policy, holds: &[Hold], now: DateTime<Utc>, time: DateTime<Utc>) -> bool {
    let within = |keep: &Keep| keep.any_point.is_some_and(|span| time >= span.before(now));
    within(&policy.keep)
        || policy.overrides.iter().any(|o| time >= o.from && time < o.to && within(&o.keep))
        || holds
            .iter()
            .any(|hold| matches!(hold.on, Held::Between { from, to } if time >= from && time <= to))
}

/// Everything that is promised and can be gone back to before can be afterwards.
fn check(
    before: &[World],
    decision: &Decision,
    policy: &Policy,
    holds: &[Hold],
    now: DateTime<Utc>,
) -> Result<Vec<World>, TestCaseError> {
    let after: Vec<_> =
        before.iter().zip(&decision.lineages).map(|(w, decided)| w.without(decided)).collect();
    for (old, new) in before.iter().zip(&after) {
        let (old_view, new_view) = (old.view(), new.view());
        let (old_ways, new_ways) = (old.ways_back(), new.ways_back());
        for commit in &old.commits {
            if promised(policy, holds, now, commit.time) {
                for whole in [false, true] {
                    if old_ways.reach(commit, whole) {
                        prop_assert!(
                            new_ways.reach(commit, whole),
                            "{commit:?} is lost (whole: {whole})"
                        );
                    }
                }
            }
        }
        for snapshot in &new.snapshots {
            prop_assert!(
                !wal_is_whole(&old_view, snapshot.span) || wal_is_whole(&new_view, snapshot.span),
                "{snapshot:?} is kept without its WAL"
            );
        }
        for snapshot in &old.snapshots {
            let held = holds
                .iter()
                .any(|h| matches!(h.on, Held::Snapshot(id) if id.to_string() == snapshot.id));
            prop_assert!(!held || new.snapshots.iter().any(|s| s.id == snapshot.id));
        }
        // As far as one could go on the newest timeline, one still can.
        if old.system == before.last().unwrap().system
            && let Some((timeline, _)) = old_view.frontier()
        {
            prop_assert_eq!(old_ways.farthest(timeline), new_ways.farthest(timeline));
        }
    }
    let usable = |worlds: &[World]| {
        worlds.iter().any(|w| {
            let view = w.view();
            w.snapshots.iter().any(|s| wal_is_whole(&view, s.span))
        })
    };
    prop_assert!(!usable(before) || usable(&after), "the last way back is gone");
    Ok(after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// What is promised survives; what was decided once is decided again; and time takes away nothing
    /// that is promised later.
    #[test]
    fn nothing_that_is_promised_dies(
        old in worlds(7, epoch()),
        new in proptest::option::of(worlds(8, epoch() + TimeDelta::days(16))),
        policy in policies(),
        held in proptest::collection::vec((any::<bool>(), 0_usize..16, 0_i64..30, 0_i64..9), 0..3),
        now in 5_i64..50,
        later in 0_i64..30,
    ) {
        let now = epoch() + TimeDelta::days(now);
        let holds: Vec<_> = held.into_iter().zip(1_u128..).map(|((one, n, from, days), id)| {
            let from = epoch() + TimeDelta::days(from);
            let between = Held::Between { from, to: from + TimeDelta::days(days) };
            let on = match old.snapshots.get(n) {
                Some(snapshot) if one => Held::Snapshot(snapshot.id.parse().unwrap()),
                _ => between,
            };
            Hold { id: Uuid::from_u128(id), ..hold(on) }
        }).collect();
        let worlds: Vec<_> = [Some(old), new].into_iter().flatten().collect();
        let decision = decided(&worlds, &policy, &holds, now);
        let after = check(&worlds, &decision, &policy, &holds, now)?;
        // Again at the same time: nothing more.
        let again = decided(&after, &policy, &holds, now);
        for (world, fates) in after.iter().zip(&again.lineages) {
            prop_assert!(fates.snapshots.iter().all(|fate| fate.kept), "{:?} {:?}", world.snapshots, fates.snapshots);
            prop_assert!(fates.wal.values().all(|fate| fate.kept), "{:?}", fates.wal);
        }
        // Later, from what is left: what is promised then and could be reached at first.
        let later = now + TimeDelta::days(later);
        let second = decided(&after, &policy, &holds, later);
        let left = check(&after, &second, &policy, &holds, later)?;
        for (first, last) in worlds.iter().zip(&left) {
            let (first_ways, last_ways) = (first.ways_back(), last.ways_back());
            for commit in &first.commits {
                if promised(&policy, &holds, later, commit.time) && first_ways.reach(commit, false) {
                    prop_assert!(last_ways.reach(commit, false), "{commit:?} is lost in the end");
                }
            }
        }
    }
}
