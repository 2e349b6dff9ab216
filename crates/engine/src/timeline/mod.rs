//! The timeline: everything a cluster can be brought back to, as much of it as a drawing shows.
//!
//! Ten years of hourly snapshots and a hundred million commits are drawn from outlines; what lies too
//! close together to be told apart is given as a group with its count.

mod commits;
mod density;
mod history;
pub(crate) mod outline;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use holdfast_postgres::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};

pub use commits::Around;
pub(crate) use history::Histories;
pub use history::{Freshness, History};
use outline::SegmentOutline;

use crate::Engine;
use crate::archive::{Leg, PointEvent, StoredSegment};
use crate::error::{ErrorObject, Result};
use crate::points::{CoverageWindow, Density, PointState, RestorePoint, SnapshotSummary};

/// The most groups a lane is given in.
const GROUP_LIMIT: usize = 400;

/// What a drawing of a cluster's history between two times needs.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Timeline {
    /// The cluster.
    pub cluster: String,
    /// When the repository was last listed; none when only what this machine remembered was read.
    #[ts(type = "string | null")]
    pub read_at: Option<DateTime<Utc>>,
    /// It is being read again: ask once more.
    pub reading: bool,
    /// Why it could not be read again.
    pub problem: Option<ErrorObject>,
    /// The first and last time that is known of anything stored; none when nothing is.
    pub extent: Option<TimeSpan>,
    /// What is shown.
    pub shown: TimeSpan,
    /// Every timeline that has WAL or an ancestry, in order of their numbers.
    pub branches: Vec<Branch>,
    /// WAL without holes, by timeline; all of it.
    pub windows: Vec<CoverageWindow>,
    /// Snapshots that are shown, those that lie too close together as groups; oldest first.
    pub snapshots: Vec<SnapshotGroup>,
    /// How many snapshots there are in all.
    #[ts(type = "number")]
    pub snapshots_total: u64,
    /// Restore points that are shown, likewise.
    pub restore_points: Vec<RestorePointGroup>,
    /// How many restore points there are in all.
    #[ts(type = "number")]
    pub restore_points_total: u64,
    /// Commits of what is shown.
    pub density: Density,
}

/// Along which timeline commits are counted and given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the newest one.
    Newest,
    /// To this one.
    To(TimelineId),
}

/// From one time to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct TimeSpan {
    /// From.
    #[ts(type = "string")]
    pub from: DateTime<Utc>,
    /// To.
    #[ts(type = "string")]
    pub to: DateTime<Utc>,
}

/// One timeline and where it left its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Branch {
    /// The timeline.
    pub timeline: u32,
    /// The timeline it left; none for the first, or where its ancestry is not archived.
    pub parent: Option<u32>,
    /// Where it left.
    #[ts(type = "string | null")]
    pub switch_lsn: Option<Lsn>,
    /// The last time that is known of its parent before that place; none where nothing is.
    #[ts(type = "string | null")]
    pub switch_time: Option<DateTime<Utc>>,
    /// Its ancestry is missing although it needs one: recovery along it is refused.
    pub ancestry_missing: bool,
}

/// Snapshots that lie too close together to be told apart.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct SnapshotGroup {
    /// The first's and the last's time of consistency.
    pub span: TimeSpan,
    /// How many.
    pub count: u32,
    /// How many in each state, the worst first.
    pub states: Vec<(PointState, u32)>,
    /// The one snapshot of a group of one.
    pub snapshot: Option<SnapshotSummary>,
}

/// Restore points that lie too close together to be told apart.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RestorePointGroup {
    /// The first's and the last's time.
    pub span: TimeSpan,
    /// How many.
    pub count: u32,
    /// The one point of a group of one.
    pub point: Option<RestorePoint>,
}

impl Engine {
    /// What a drawing of a cluster's history needs: all of it, or what lies between two times, in
    /// `groups` columns of snapshots and restore points and `buckets` of commits along `way`.
    ///
    /// # Errors
    /// When the repository cannot be read, and nothing of it was read before.
    pub async fn timeline(
        &self,
        name: &str,
        shown: Option<TimeSpan>,
        groups: usize,
        buckets: usize,
        way: Way,
    ) -> Result<Timeline> {
        let cluster = self.cluster(name).await?;
        let read = self.read_history(&cluster, Freshness::Kept).await?;
        let history = &read.history;
        let windows = history.windows();
        let points = history.restore_points();
        let extent = extent(&windows, &history.snapshots, &points);
        let shown = shown.or_else(|| extent.map(widened)).unwrap_or_else(|| {
            let now = Utc::now();
            TimeSpan { from: now - TimeDelta::hours(1), to: now }
        });
        let groups = groups.clamp(1, GROUP_LIMIT);
        let density = history.density(self, shown, buckets, way).await?;
        Ok(Timeline {
            cluster: cluster.name,
            read_at: history.read_at,
            reading: read.reading,
            problem: read.problem,
            extent,
            shown,
            branches: history.branches(self).await?,
            windows,
            snapshots: snapshot_groups(&history.snapshots, shown, groups),
            snapshots_total: history.snapshots.len() as u64,
            restore_points: point_groups(&points, shown, groups),
            restore_points_total: points.len() as u64,
            density,
        })
    }
}

impl History {
    /// WAL without holes, by timeline, with the times of the first and last transaction in each.
    pub(crate) fn windows(&self) -> Vec<CoverageWindow> {
        let mut windows = Vec::new();
        for timeline in self.view.timelines() {
            let leg = Leg { timeline, from: Lsn::INVALID, to: None };
            let steps = self.steps(&[leg]);
            for &(from_lsn, to_lsn) in self.view.runs(timeline) {
                let inside = || {
                    steps.iter().filter(|step| {
                        let end = step.stored.end();
                        end > from_lsn && end <= to_lsn
                    })
                };
                let first = inside().find_map(|step| {
                    self.outlines(step.stored).find_map(|o| o.first_from(from_lsn))
                });
                let last = inside()
                    .rev()
                    .find_map(|step| self.outlines(step.stored).rev().find_map(|o| o.last))
                    .filter(|last| last.span.start >= from_lsn);
                windows.push(CoverageWindow {
                    timeline: timeline.get(),
                    from: first.map(|t| t.time.to_chrono()),
                    to: last.map(|t| t.time.to_chrono()),
                    from_lsn,
                    to_lsn,
                    gaps: self
                        .view
                        .gaps
                        .iter()
                        .filter(|g| g.timeline == timeline)
                        .filter(|g| g.to_lsn == from_lsn || g.from_lsn == to_lsn)
                        .cloned()
                        .collect(),
                });
            }
        }
        windows
    }

    /// Every named restore point, by timeline in WAL order.
    pub(crate) fn restore_points(&self) -> Vec<RestorePoint> {
        let mut points: Vec<RestorePoint> = Vec::new();
        for timeline in self.view.timelines() {
            for (_, segment) in self.view.segments(timeline) {
                for outline in self.outlines(segment) {
                    for p in &outline.index.points {
                        // Pieces of one segment may both hold a record.
                        if points
                            .last()
                            .is_none_or(|l| l.timeline != timeline.get() || l.lsn < p.span.start)
                        {
                            points.push(RestorePoint {
                                name: p.name.clone(),
                                time: p.time.to_chrono(),
                                lsn: p.span.start,
                                timeline: timeline.get(),
                            });
                        }
                    }
                }
            }
        }
        points
    }

    /// When the first and the last transaction of a segment ended.
    pub(crate) fn first_and_last_end(
        &self,
        segment: &StoredSegment,
    ) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        let first = self.outlines(segment).find_map(SegmentOutline::first);
        let last = self.outlines(segment).rev().find_map(|outline| outline.last);
        (first.map(|t| t.time.to_chrono()), last.map(|t| t.time.to_chrono()))
    }

    async fn branches(&self, engine: &Engine) -> Result<Vec<Branch>> {
        let mut timelines: Vec<TimelineId> =
            self.view.timelines().chain(self.view.histories.keys().copied()).collect();
        timelines.sort_unstable();
        timelines.dedup();
        let mut branches = Vec::new();
        for timeline in timelines {
            let history = self.view.histories.get(&timeline);
            let switch = history.and_then(|h| h.switches.last());
            let switch_time = match switch {
                Some(switch) => {
                    self.last_time_before(engine, switch.parent, switch.switch_lsn).await?
                }
                None => None,
            };
            branches.push(Branch {
                timeline: timeline.get(),
                parent: switch.map(|s| s.parent.get()),
                switch_lsn: switch.map(|s| s.switch_lsn),
                switch_time,
                ancestry_missing: history.is_none() && timeline != TimelineId::FIRST,
            });
        }
        Ok(branches)
    }

    /// The time of the last transaction end or restore point on a timeline before a place.
    async fn last_time_before(
        &self,
        engine: &Engine,
        timeline: TimelineId,
        place: Lsn,
    ) -> Result<Option<DateTime<Utc>>> {
        let leg = Leg { timeline, from: Lsn::INVALID, to: Some(place) };
        for step in self.steps(&[leg]).into_iter().rev() {
            if step.stored.end() <= place {
                if let Some(last) = self.outlines(step.stored).rev().find_map(|o| o.last) {
                    return Ok(Some(last.time.to_chrono()));
                }
                continue;
            }
            // The timeline was left in the middle of this segment.
            let last = self.events(engine, step).await?.into_iter().next_back();
            if let Some(event) = last {
                return Ok(Some(match event {
                    PointEvent::Transaction(_, t) => t.time.to_chrono(),
                    PointEvent::Point(_, p) => p.time.to_chrono(),
                }));
            }
        }
        Ok(None)
    }

    /// The last commit along `legs` whose record starts in `[from, to)`.
    pub(crate) async fn last_commit(
        &self,
        engine: &Engine,
        legs: &[Leg],
        from: Lsn,
        to: Lsn,
    ) -> Result<Option<DateTime<Utc>>> {
        for step in self.steps(legs).into_iter().rev() {
            let known = self.outlines(step.stored).rev().find_map(|o| o.last_commit);
            let Some(known) = known else { continue };
            let whole =
                step.stored.end() <= to && step.leg.to.is_none_or(|t| step.stored.end() <= t);
            if whole && known.span.start >= from {
                return Ok(Some(known.time.to_chrono()));
            }
            let found = self.events(engine, step).await?.into_iter().rev().find_map(|e| match e {
                PointEvent::Transaction(_, t)
                    if t.kind == crate::archive::TransactionKind::Commit
                        && t.span.start >= from
                        && t.span.start < to =>
                {
                    Some(t.time.to_chrono())
                }
                _ => None,
            });
            if found.is_some() {
                return Ok(found);
            }
            if step.stored.end() <= from {
                break;
            }
        }
        Ok(None)
    }
}

/// A margin on both sides; the one on the right is what is not stored yet.
fn widened(extent: TimeSpan) -> TimeSpan {
    let span = extent.to - extent.from;
    TimeSpan { from: extent.from - span * 3 / 100, to: extent.to + span * 6 / 100 }
}

fn extent(
    windows: &[CoverageWindow],
    snapshots: &[SnapshotSummary],
    points: &[RestorePoint],
) -> Option<TimeSpan> {
    let times = windows
        .iter()
        .flat_map(|w| [w.from, w.to])
        .flatten()
        .chain(snapshots.iter().flat_map(|s| [s.started_at, s.finished_at]))
        .chain(points.iter().map(|p| p.time));
    let (from, to) = times.fold(None, |found, time| match found {
        None => Some((time, time)),
        Some((from, to)) => Some((time.min(from), time.max(to))),
    })?;
    // A single moment cannot be drawn.
    Some(TimeSpan { from, to: to.max(from + TimeDelta::seconds(1)) })
}

/// Puts what has a time into groups by the column of the drawing it falls in, in order of time.
fn grouped<T>(
    items: &[T],
    time: impl Fn(&T) -> DateTime<Utc>,
    shown: TimeSpan,
    groups: usize,
) -> Vec<Vec<&T>> {
    let span = (shown.to - shown.from).num_microseconds().unwrap_or(i64::MAX).max(1);
    // What stands just outside is seen by its half.
    let margin = TimeDelta::microseconds(span / i64::try_from(groups).unwrap_or(1) + 1);
    let mut columns: BTreeMap<i64, Vec<&T>> = BTreeMap::new();
    for item in items {
        let at = time(item);
        if at < shown.from - margin || at > shown.to + margin {
            continue;
        }
        let offset = (at - shown.from).num_microseconds().unwrap_or(0);
        let column = i128::from(offset) * groups as i128 / i128::from(span);
        columns.entry(i64::try_from(column).unwrap_or(0)).or_default().push(item);
    }
    columns
        .into_values()
        .map(|mut column| {
            column.sort_by_key(|item| time(item));
            column
        })
        .collect()
}

fn span_of<T>(group: &[&T], time: impl Fn(&T) -> DateTime<Utc>, shown: TimeSpan) -> TimeSpan {
    let from = group.first().map_or(shown.from, |item| time(item));
    TimeSpan { from, to: group.last().map_or(from, |item| time(item)) }
}

fn snapshot_groups(
    snapshots: &[SnapshotSummary],
    shown: TimeSpan,
    groups: usize,
) -> Vec<SnapshotGroup> {
    let time = |s: &SnapshotSummary| s.finished_at;
    grouped(snapshots, time, shown, groups)
        .into_iter()
        .map(|group| {
            let mut states: Vec<(PointState, u32)> = Vec::new();
            for snapshot in &group {
                match states.iter_mut().find(|(state, _)| *state == snapshot.state) {
                    Some((_, count)) => *count += 1,
                    None => states.push((snapshot.state, 1)),
                }
            }
            states.sort_by_key(|(state, _)| std::cmp::Reverse(crate::overview::severity(*state)));
            SnapshotGroup {
                span: span_of(&group, time, shown),
                count: u32::try_from(group.len()).unwrap_or(u32::MAX),
                states,
                snapshot: match group.as_slice() {
                    [one] => Some((*one).clone()),
                    _ => None,
                },
            }
        })
        .collect()
}

fn point_groups(points: &[RestorePoint], shown: TimeSpan, groups: usize) -> Vec<RestorePointGroup> {
    let time = |p: &RestorePoint| p.time;
    grouped(points, time, shown, groups)
        .into_iter()
        .map(|group| RestorePointGroup {
            span: span_of(&group, time, shown),
            count: u32::try_from(group.len()).unwrap_or(u32::MAX),
            point: match group.as_slice() {
                [one] => Some((*one).clone()),
                _ => None,
            },
        })
        .collect()
}
