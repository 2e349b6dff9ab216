//! Why a target cannot be reached, and what is nearest.

use holdfast_postgres::Lsn;
use serde_json::json;

use crate::archive::{ArchiveView, Leg, PointEvent};
use crate::error::{EngineError, Result};
use crate::points::Commit;
use crate::restore::request::RestoreRequest;
use crate::restore::resolve::Miss;
use crate::snapshot::Snapshot;
use crate::target::Target;

/// Why one snapshot does not reach the target.
pub(super) enum Reason {
    Timeline(EngineError),
    Gap,
    Miss(Miss),
}

/// Says why no snapshot reaches the target, and what is nearest.
pub(super) fn refusal(
    view: &ArchiveView,
    request: &RestoreRequest,
    misses: &[(Reason, &Snapshot, Lsn, Vec<PointEvent>)],
) -> EngineError {
    let target = &request.target;
    let earliest = misses.last();
    let mut nearest = Vec::new();
    let mut windows = Vec::new();
    for (_, snapshot, reachable, events) in misses.iter().rev() {
        if *reachable < snapshot.stop_lsn {
            continue;
        }
        let transactions: Vec<_> = events
            .iter()
            .filter_map(|e| match e {
                PointEvent::Transaction(t, end) if end.span.start >= snapshot.stop_lsn => {
                    Some(Commit::transaction(*t, end))
                }
                _ => None,
            })
            .collect();
        windows.push(json!({
            "from_lsn": snapshot.stop_lsn, "to_lsn": reachable,
            "from": snapshot.finished_at, "to": transactions.last().map(|c| c.time),
        }));
        let mut offer = |commit: Option<&Commit>| {
            if let Some(c) = commit {
                let entry = json!({ "target": format!("xid:{}", c.xid), "lsn": c.lsn, "xid": c.xid, "time": c.time });
                if !nearest.contains(&entry) {
                    nearest.push(entry);
                }
            }
        };
        match target {
            Target::Time(time) => {
                offer(transactions.iter().rev().find(|c| c.time <= *time));
                offer(transactions.iter().find(|c| c.time > *time));
            }
            Target::Lsn(lsn) => {
                offer(transactions.iter().rev().find(|c| c.lsn <= *lsn));
                offer(transactions.iter().find(|c| c.lsn > *lsn));
            }
            _ => {
                offer(transactions.first());
                offer(transactions.last());
            }
        }
    }
    let details = json!({ "target": target.to_string(), "nearest": nearest, "windows": windows, "gaps": view.gaps });
    let name = nearest_sentence(&nearest);
    let refused = |code, message: String, hint: String| EngineError::Refused {
        code,
        message,
        hint,
        details: details.clone(),
    };
    let mut timeline_error = None;
    let mut too_early = false;
    let mut not_reached = None;
    let mut gap = None;
    for (index, (reason, snapshot, reachable, _)) in misses.iter().enumerate() {
        match reason {
            Reason::Timeline(error) => {
                timeline_error =
                    timeline_error.or(Some((error.to_string(), error.code().to_owned())))
            }
            Reason::Gap => gap = gap.or(Some((snapshot.id, *reachable))),
            Reason::Miss(Miss::TooEarly) => too_early = true,
            Reason::Miss(Miss::NotReached) => {
                not_reached = not_reached.or(Some((index, *reachable)))
            }
            Reason::Miss(Miss::NotFound) => {}
        }
    }
    if let Some((index, reachable)) = not_reached {
        let behind_gap = index > 0 && too_early;
        return if behind_gap {
            refused(
                "target_in_gap",
                format!(
                    "the target {target} lies in a gap: the WAL after {reachable} up to the next backup is not archived"
                ),
                format!(
                    "{name} What happened in the gap cannot be recovered from this repository."
                ),
            )
        } else {
            refused(
                "target_not_reached",
                format!("the archive ends at {reachable}, before the target {target} is reached"),
                format!(
                    "PostgreSQL stops at a time only when a later transaction follows. {name} For everything that is \
                     archived use `latest`."
                ),
            )
        };
    }
    if let (Some((message, code)), true) =
        (timeline_error, misses.iter().all(|(reason, ..)| matches!(reason, Reason::Timeline(_))))
    {
        let code = if code == "timeline_history_missing" {
            "timeline_history_missing"
        } else {
            "timeline_not_reachable"
        };
        return refused(
            code,
            message,
            "Choose another --timeline, or another --snapshot.".to_owned(),
        );
    }
    if too_early {
        let from = earliest
            .map(|(_, s, ..)| s.finished_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        return refused(
            "target_too_early",
            format!(
                "the target {target} lies before the oldest backup that could reach it is consistent"
            ),
            format!(
                "The oldest one is consistent at {}. {name}",
                from.unwrap_or_else(|| "(none)".to_owned())
            ),
        );
    }
    if let (Some((id, reachable)), true) =
        (gap, misses.iter().all(|(r, ..)| matches!(r, Reason::Gap)))
    {
        return refused(
            "wal_missing",
            format!("no backup has all the WAL it needs; that of {id} ends at {reachable}"),
            "Take a new backup now. If a copy of the repository is elsewhere, try that one."
                .to_owned(),
        );
    }
    let archived = archived_end(view, target);
    let consistent = earliest.map(|(_, s, ..)| s.stop_lsn);
    if let (Some(at), Some(consistent)) = (archived, consistent)
        && at < consistent
    {
        return refused(
            "target_too_early",
            format!(
                "the target {target} is archived at {at}, before the oldest backup is consistent at {consistent}"
            ),
            name,
        );
    }
    if let Some(at) = archived {
        return refused(
            "target_in_gap",
            format!(
                "the target {target} is archived at {at}, and no backup has all the WAL up to there on this timeline"
            ),
            format!("{name} Another --timeline may lead there."),
        );
    }
    let what = match target {
        Target::Xid(xid) => format!("no transaction {xid} ended in the archived WAL"),
        Target::Name(name) => format!("no restore point \"{name}\" is in the archived WAL"),
        other => format!("the target {other} cannot be reached"),
    };
    let note = if matches!(target, Target::Xid(_)) {
        "A transaction that wrote nothing, and a subtransaction, leave no end of their own in the WAL. "
    } else {
        ""
    };
    refused("target_not_found", what, format!("{note}{name}"))
}

/// A server with `wal_level = minimal` leaves out of the WAL what it can sync instead: PostgreSQL
/// refuses to replay past the place where it began.
pub(in crate::restore) fn refuse_minimal(
    view: &ArchiveView,
    legs: &[Leg],
    snapshot: &Snapshot,
    events: &[PointEvent],
    end: Lsn,
) -> Result<()> {
    let Some(at) = view.minimal_since(legs, snapshot.start_lsn, end) else { return Ok(()) };
    let last = events.iter().rev().find_map(|event| match event {
        PointEvent::Transaction(timeline, t)
            if t.span.end <= at && t.span.start >= snapshot.stop_lsn =>
        {
            Some(Commit::transaction(*timeline, t))
        }
        _ => None,
    });
    let nearest: Vec<_> = last
        .iter()
        .map(|c| json!({ "target": format!("xid:{}", c.xid), "lsn": c.lsn, "xid": c.xid, "time": c.time }))
        .collect();
    Err(EngineError::Refused {
        code: "wal_level_minimal",
        message: format!(
            "from {at} on the server wrote with wal_level = minimal: that WAL does not hold everything, and \
             PostgreSQL does not replay it"
        ),
        hint: format!(
            "{} What came later can be restored from a backup that was taken later.",
            nearest_sentence(&nearest)
        ),
        details: json!({ "snapshot": snapshot.id, "lsn": at, "nearest": nearest }),
    })
}

/// Where a transaction or restore point that no snapshot reaches is archived all the same.
fn archived_end(view: &ArchiveView, target: &Target) -> Option<Lsn> {
    view.timelines().find_map(|timeline| {
        let leg = [Leg { timeline, from: Lsn::INVALID, to: None }];
        view.events(&leg, Lsn::INVALID, Lsn(u64::MAX)).into_iter().find_map(|event| {
            let hit = match (&event, target) {
                (PointEvent::Transaction(_, t), Target::Xid(xid)) => t.xid == *xid,
                (PointEvent::Point(_, p), Target::Name(name)) => p.name == *name,
                _ => false,
            };
            hit.then(|| event.span().start)
        })
    })
}

fn nearest_sentence(nearest: &[serde_json::Value]) -> String {
    let list: Vec<_> = nearest
        .iter()
        .map(|n| {
            format!(
                "{} ({})",
                n["target"].as_str().unwrap_or_default(),
                n["time"].as_str().unwrap_or_default()
            )
        })
        .collect();
    if list.is_empty() {
        "No transaction after a backup can be reached; `immediate` may.".to_owned()
    } else {
        format!("The nearest that can be reached: {}.", list.join(", "))
    }
}
