//! Which snapshot reaches the target, along which timelines, and with which WAL.

use holdfast_postgres::{
    Lsn, RecordSpan, SegmentNo, TimelineId, WalExpectations, WalFileName, WalStreamReader,
};
use holdfast_repository::Repository;

use super::refusal::{Reason, refusal};
use crate::archive::{ArchiveView, Leg, PointEvent};
use crate::error::{EngineError, Result};
use crate::restore::request::{RestoreRequest, TimelineChoice};
use crate::restore::resolve::{self, Miss, Stop, StopRule, Way};
use crate::snapshot::{Proof, Snapshot};
use crate::target::Target;

/// So many transaction ends before a snapshot's start are compared with a target time.
const ENDS_BEFORE_SNAPSHOT: usize = 1000;

pub(super) struct Chosen {
    pub(super) snapshot: Snapshot,
    pub(super) legs: Vec<Leg>,
    pub(super) stop: Stop,
    pub(super) events: Vec<PointEvent>,
    pub(super) reachable: Lsn,
}

/// Finds the newest snapshot that can reach the target.
pub(super) async fn choose(
    repository: &Repository,
    view: &ArchiveView,
    snapshots: &[(Snapshot, Option<Proof>)],
    request: &RestoreRequest,
    pinned: Option<Lsn>,
) -> Result<Chosen> {
    if snapshots.is_empty() {
        return Err(EngineError::refused(
            "no_snapshot",
            format!("there is no backup of \"{}\" yet", request.cluster),
            format!("Take one: `holdfast backup {}`.", request.cluster),
        ));
    }
    if let Some(id) = request.snapshot
        && !snapshots.iter().any(|(s, _)| s.id == id)
    {
        return Err(EngineError::NotFound { what: "snapshot", name: id.to_string() });
    }
    let mut misses = Vec::new();
    for (snapshot, _) in
        snapshots.iter().rev().filter(|(s, _)| request.snapshot.is_none_or(|id| s.id == id))
    {
        let legs = match legs_for(view, snapshot, request.timeline) {
            Ok(legs) => legs,
            Err(error) => {
                misses.push((Reason::Timeline(error), snapshot, Lsn::INVALID, Vec::new()));
                continue;
            }
        };
        let reachable = view.reachable_from(&legs, snapshot.start_lsn);
        if reachable < snapshot.stop_lsn {
            misses.push((Reason::Gap, snapshot, reachable, Vec::new()));
            continue;
        }
        let events = view.events(&legs, snapshot.start_lsn, reachable);
        let wanted = match (&request.target, pinned) {
            (Target::Lsn(lsn), _) => Some(*lsn),
            _ => pinned,
        };
        let record = match wanted {
            Some(lsn) if lsn >= snapshot.start_lsn && lsn < reachable => {
                first_record_at(repository, view, &legs, lsn, reachable).await?
            }
            _ => None,
        };
        let way = Way {
            events: &events,
            start: snapshot.start_lsn,
            consistent: snapshot.stop_lsn,
            last_record: if pinned.is_some() {
                record
            } else {
                view.last_record(&legs, snapshot.start_lsn, reachable)
            },
            record,
        };
        let resolved =
            resolve::resolve(&request.target, request.exclusive, &way).and_then(|stop| match stop
                .rule
            {
                StopRule::Time(time) if is_past(view, &legs, snapshot, time, request.exclusive) => {
                    Err(Miss::TooEarly)
                }
                _ => Ok(stop),
            });
        match resolved {
            Ok(stop) => {
                return Ok(Chosen { snapshot: snapshot.clone(), legs, stop, events, reachable });
            }
            Err(miss) => {
                let definitive = miss == Miss::NotReached && misses.is_empty();
                misses.push((Reason::Miss(miss), snapshot, reachable, events));
                if definitive && !matches!(request.target, Target::Latest) {
                    break;
                }
            }
        }
    }
    Err(refusal(view, request, &misses))
}

/// The way from a snapshot along the chosen timeline.
fn legs_for(view: &ArchiveView, snapshot: &Snapshot, choice: TimelineChoice) -> Result<Vec<Leg>> {
    let passes = |legs: &[Leg]| {
        legs.iter().any(|l| {
            l.timeline == snapshot.timeline && l.to.is_none_or(|to| to >= snapshot.stop_lsn)
        })
    };
    let timeline = match choice {
        TimelineChoice::Current => snapshot.timeline,
        TimelineChoice::Numbered(timeline) => timeline,
        TimelineChoice::Latest => {
            let mut candidates: Vec<_> =
                view.histories.keys().copied().chain(view.timelines()).collect();
            candidates.sort();
            let mut newest = None;
            for candidate in candidates.into_iter().rev() {
                // Without its ancestry nobody knows whether a newer timeline is the latest: PostgreSQL would
                // silently stop at the end of the older one.
                let legs = if candidate > snapshot.timeline {
                    view.path(candidate)?
                } else {
                    view.path(candidate).unwrap_or_default()
                };
                if passes(&legs) {
                    newest = Some(candidate);
                    break;
                }
            }
            newest.unwrap_or(snapshot.timeline)
        }
    };
    let legs = view.path(timeline)?;
    if passes(&legs) {
        return Ok(legs);
    }
    Err(EngineError::refused(
        "timeline_not_reachable",
        format!(
            "timeline {timeline} does not continue timeline {} after the backup's end at {}",
            snapshot.timeline, snapshot.stop_lsn
        ),
        "Choose the timeline that does, or an older snapshot.",
    ))
}

/// Whether a snapshot holds more than what ended by `time`: such transactions are in its files, and
/// no replay takes them away again. The ends archived before its start show it; without any, this
/// machine's clock at the time of the backup must do.
fn is_past(
    view: &ArchiveView,
    legs: &[Leg],
    snapshot: &Snapshot,
    time: i64,
    exclusive: bool,
) -> bool {
    let size = view.segment_size;
    let mut end = snapshot.start_lsn;
    let mut seen = 0;
    // Ends stand in the WAL nearly in the order of their times: a few are enough.
    while seen < ENDS_BEFORE_SNAPSHOT && end > Lsn::INVALID {
        let segment = size.segment_of(Lsn(end.0 - 1));
        let stored = view.file_for(legs, segment).and_then(|f| view.segment(f.timeline, segment));
        // Beyond a gap anything may have happened.
        if stored.is_none_or(|stored| stored.end() < end) {
            break;
        }
        for event in view.events(legs, size.start_of(segment), end) {
            if let PointEvent::Transaction(_, t) = event {
                if t.time.0 > time || exclusive && t.time.0 == time {
                    return true;
                }
                seen += 1;
            }
        }
        end = size.start_of(segment);
    }
    seen == 0 && time < holdfast_postgres::PgTimestamp::from_chrono(snapshot.started_at).0
}

/// Reads the WAL around `lsn` for the first record that starts there or later.
async fn first_record_at(
    repository: &Repository,
    view: &ArchiveView,
    legs: &[Leg],
    lsn: Lsn,
    reachable: Lsn,
) -> Result<Option<RecordSpan>> {
    let size = view.segment_size;
    let wanted = size.segment_of(lsn);
    // One segment earlier, so that a record that crosses into the wanted one is recognised.
    let mut segment = SegmentNo(wanted.0.saturating_sub(1));
    if view.file_for(legs, segment).is_none() {
        segment = wanted;
    }
    let mut reader =
        WalStreamReader::at_segment(size.start_of(segment), size, WalExpectations::default());
    while size.start_of(segment) < reachable {
        let Some(stored) =
            view.file_for(legs, segment).and_then(|f| view.segment(f.timeline, segment))
        else {
            break;
        };
        let bytes = view.read_segment(repository, stored).await?;
        let mut records = Vec::new();
        // The end of what is archived is no error here.
        let read = reader.push(&bytes, &mut records);
        if let Some(found) = records.iter().find(|r| r.span.start >= lsn) {
            return Ok(Some(found.span));
        }
        if read.is_err() || (bytes.len() as u64) < size.bytes() {
            break;
        }
        segment = SegmentNo(segment.0 + 1);
    }
    Ok(None)
}

pub(super) fn timeline_at(legs: &[Leg], end: Lsn) -> TimelineId {
    let last = Lsn(end.0.saturating_sub(1));
    legs.iter()
        .find(|l| l.from <= last && l.to.is_none_or(|to| to > last))
        .or(legs.last())
        .map_or(TimelineId::FIRST, |l| l.timeline)
}

/// The files of WAL that replay will ask for, in order.
pub(in crate::restore) fn wal_files(
    view: &ArchiveView,
    legs: &[Leg],
    start: Lsn,
    end: Lsn,
) -> Result<Vec<WalFileName>> {
    let size = view.segment_size;
    let last = size.segment_of(Lsn(end.0.saturating_sub(1)));
    let mut files = Vec::new();
    for number in size.segment_of(start).0..=last.0 {
        let segment = SegmentNo(number);
        let file = view.file_for(legs, segment).ok_or_else(|| {
            EngineError::refused(
                "wal_missing",
                format!("the WAL segment at {} is not archived", size.start_of(segment)),
                "Choose a target before it, or a snapshot after it.",
            )
        })?;
        files.push(file);
    }
    Ok(files)
}
