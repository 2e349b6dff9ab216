//! `retention`, `policy` and `hold`: what is kept, for how long, and why.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use holdfast_engine::retention::{
    DEFAULT_DELAY, Held, Hold, LocksRenewed, MAX_POLICY_BYTES, Policy, PolicyVersion, Queued,
    Reason, RetentionApplied, RetentionPlan, Span, Undeleted, parse_hold, parse_mark,
};
use holdfast_engine::size::bytes;
use holdfast_engine::snapshot::parse_id;
use holdfast_engine::target::parse_time;
use holdfast_engine::{Engine, EngineError, Result};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::output::Output;
use crate::tables::{table, time};

#[derive(Debug, Subcommand)]
pub(crate) enum Retention {
    /// Every snapshot and every stretch of WAL, with the reason why it is kept or not. Removes nothing.
    #[command(after_help = "Example:\n  holdfast retention plan orders-eu")]
    Plan {
        /// The cluster.
        name: String,
    },
    /// Mark what the plan does not keep, and remove what was marked long enough ago.
    ///
    /// What is marked stays as it is until its delay has passed and this is run again; until then
    /// `holdfast retention undelete` takes the mark back. What the plan of that time keeps, what a hold was placed
    /// on, and what a backup, restore or replication under way may need is not removed.
    #[command(
        after_help = "Examples:\n  holdfast retention apply orders-eu\n  holdfast retention apply orders-eu --delay 48h"
    )]
    Apply {
        /// The cluster.
        name: String,
        /// How long what is marked now can be taken back: a whole number and h, d, w, mo or y.
        #[arg(long, value_name = "SPAN", default_value_t = DEFAULT_DELAY)]
        delay: Span,
        /// Give up snapshots that this machine knows and the store does not list any more: without this, nothing is
        /// removed while something is missing.
        #[arg(long)]
        accept_lost: bool,
    },
    /// What is marked for removal, and until when that can be taken back.
    #[command(after_help = "Example:\n  holdfast retention queue orders-eu")]
    Queue {
        /// The cluster.
        name: String,
    },
    /// Take marks for removal back. What the plan still does not keep is marked again the next time; a hold keeps it.
    #[command(
        after_help = "Examples:\n  holdfast retention undelete orders-eu\n  holdfast retention undelete orders-eu 0198f0a0-0000-7000-8000-000000000000"
    )]
    Undelete {
        /// The cluster.
        name: String,
        /// This mark alone; all of the cluster when none is given.
        id: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Set what is kept of a cluster; earlier versions of its policy stay in the repository.
    #[command(
        after_help = "Example:\n  echo '{\"format\":1,\"keep\":{\"hourly\":\"48h\",\"daily\":\"30d\",\"weekly\":\"12mo\",\"any_point\":\"30d\"}}' > policy.json\n  holdfast policy set orders-eu policy.json\n\nLengths of time are a number and h, d, w, mo or y. What the file does not name is not kept.\n`holdfast policy show NAME --json` has the present one under \"policy\"."
    )]
    Set {
        /// The cluster.
        name: String,
        /// A JSON file with the policy.
        file: PathBuf,
    },
    /// What is kept of a cluster.
    #[command(after_help = "Example:\n  holdfast policy show orders-eu")]
    Show {
        /// The cluster.
        name: String,
    },
    /// What of that which is stored now would still be kept at a time to come.
    #[command(
        after_help = "Example:\n  holdfast policy simulate orders-eu --at 2027-06-14T00:00:00Z --policy new.json\n\nBackups that will be taken until then are not made up."
    )]
    Simulate {
        /// The cluster.
        name: String,
        /// The time (RFC 3339 with an offset).
        #[arg(long, value_name = "TIME")]
        at: String,
        /// By the policy in this file instead of the cluster's own.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// Keep a snapshot, or everything between two times, until the hold is lifted.
    #[command(
        after_help = "Examples:\n  holdfast hold add orders-eu --snapshot 0198f0a0-0000-7000-8000-000000000000 --reason 'case 2026/114'\n  holdfast hold add orders-eu --from 2026-06-01T00:00:00Z --to 2026-06-30T23:59:59Z --reason 'audit'"
    )]
    Add {
        /// The cluster.
        name: String,
        #[command(flatten)]
        on: HeldThing,
        /// Why: whoever wants to lift the hold has to know.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Lift a hold: the policy alone says then how long what it held is kept.
    #[command(
        after_help = "Example:\n  holdfast hold remove orders-eu 0198f0a0-0000-7000-8000-000000000000"
    )]
    Remove {
        /// The cluster.
        name: String,
        /// The hold's id.
        id: String,
    },
    /// The holds on a cluster.
    #[command(after_help = "Example:\n  holdfast hold list orders-eu")]
    List {
        /// The cluster.
        name: String,
    },
}

/// What a hold is placed on: a snapshot, or a span of time.
#[derive(Debug, Args)]
pub(crate) struct HeldThing {
    /// This snapshot.
    #[arg(long, value_name = "ID", required_unless_present = "from", conflicts_with = "from")]
    snapshot: Option<String>,
    /// Every snapshot and transaction from this time on (RFC 3339 with an offset).
    #[arg(long, value_name = "TIME", requires = "to")]
    from: Option<String>,
    /// Up to this time.
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<String>,
}

pub(crate) async fn retention(
    engine: &Engine,
    command: Retention,
    output: Output,
    cancel: &CancellationToken,
) -> Result<ExitCode> {
    match command {
        Retention::Plan { name } => {
            Ok(output.result(&engine.retention_plan(&name).await?, plan_text))
        }
        Retention::Apply { name, delay, accept_lost } => {
            let applied = engine.apply_retention(&name, delay, accept_lost, cancel.clone()).await?;
            Ok(output.result(&applied, applied_text))
        }
        Retention::Queue { name } => {
            let queue = engine.retention_queue(&name).await?;
            Ok(output.result(&json!({ "queue": queue }), |_| queue_text(&queue)))
        }
        Retention::Undelete { name, id } => {
            let mark = id.as_deref().map(parse_mark).transpose()?;
            let outcome = engine.undelete(&name, mark).await?;
            Ok(output.result(&outcome, undeleted_text))
        }
    }
}

fn applied_text(applied: &RetentionApplied) -> String {
    let removed = &applied.removed;
    let mut text = if removed.objects == 0 {
        "Nothing was removed.".to_owned()
    } else {
        format!(
            "Removed: {} snapshots, {} WAL segments, {} packs; {} in {} objects.",
            removed.snapshots.len(),
            removed.wal_segments,
            removed.packs,
            bytes(removed.bytes),
            removed.objects
        )
    };
    for id in &applied.spared {
        let _ = write!(
            text,
            "\nSnapshot {id} was marked and stays: a hold or the policy keeps it by now."
        );
    }
    for waiting in &applied.waiting {
        let _ = write!(
            text,
            "\nMark {} is not removed yet: {} may be reading it (its lease ends at {} unless it is renewed). Apply \
             retention again later.",
            waiting.id,
            waiting.holder,
            time(waiting.until)
        );
    }
    for locked in &applied.locked {
        let _ = write!(
            text,
            "\nMark {} is not removed yet: the store locks what it names until {}. Until then it can be taken \
             back.",
            locked.id,
            time(locked.until)
        );
    }
    text.push_str(&locks_renewed(applied.locks.as_ref()));
    for kept in &applied.kept_by_store {
        let _ = write!(text, "\nThe store did not remove {}: {}", kept.object, kept.message);
    }
    match &applied.marked {
        None => text.push_str("\nNothing new is marked."),
        Some(marked) => {
            let _ = write!(
                text,
                "\nMarked now: {} snapshots, {} WAL segments, {} packs, about {}. `holdfast retention undelete {} {}` \
                 takes that back until it is removed, at {} at the earliest.",
                marked.snapshots.len(),
                marked.wal_segments,
                marked.packs,
                bytes(marked.bytes),
                applied.cluster,
                marked.id,
                time(marked.due_at)
            );
        }
    }
    if !applied.queue.is_empty() {
        let _ = write!(text, "\n\n{}", queue_text(&applied.queue));
    }
    text
}

fn undeleted_text(outcome: &Undeleted) -> String {
    let mut text = format!("Not marked any more:\n\n{}", queue_text(&outcome.undeleted));
    if !outcome.removing.is_empty() {
        let _ = write!(
            text,
            "\n\nNot taken back, since their removal has begun:\n\n{}",
            queue_text(&outcome.removing)
        );
    }
    text
}

fn queue_text(queue: &[Queued]) -> String {
    if queue.is_empty() {
        return "Nothing is marked for removal.".to_owned();
    }
    let row = |each: &Queued| {
        vec![
            each.id.clone(),
            time(each.marked_at),
            if each.removing { "being removed".to_owned() } else { time(each.due_at) },
            each.snapshots.len().to_string(),
            each.wal_segments.to_string(),
            each.packs.to_string(),
            bytes(each.bytes),
        ]
    };
    let rows: Vec<_> = queue.iter().map(row).collect();
    table(&["mark", "marked", "not before", "snapshots", "segments", "packs", "about"], &rows)
}

pub(crate) async fn policy(
    engine: &Engine,
    command: PolicyCommand,
    output: Output,
) -> Result<ExitCode> {
    match command {
        PolicyCommand::Set { name, file } => {
            let policy = read_policy(&file)?;
            let version = engine.set_retention_policy(&name, policy).await?;
            Ok(output.result(&version, |v| format!("{}\n\n{}", policy_title(v), rules(v))))
        }
        PolicyCommand::Show { name } => {
            let version = engine.retention_policy(&name).await?;
            Ok(output.result(&version, |v| format!("{}\n\n{}", policy_title(v), rules(v))))
        }
        PolicyCommand::Simulate { name, at, policy } => {
            let policy = policy.as_deref().map(read_policy).transpose()?;
            let plan = engine.simulate_policy(&name, Some(parse_time(&at)?), policy).await?;
            Ok(output.result(&plan, plan_text))
        }
    }
}

pub(crate) async fn hold(
    engine: &Engine,
    command: HoldCommand,
    output: Output,
) -> Result<ExitCode> {
    match command {
        HoldCommand::Add { name, on, reason } => {
            let hold = engine.add_hold(&name, held(on)?, &reason).await?;
            Ok(output.result(&hold, |h| format!("Hold {} is placed", h.id)))
        }
        HoldCommand::Remove { name, id } => {
            let hold = engine.remove_hold(&name, parse_hold(&id)?).await?;
            Ok(output.result(&json!({ "removed": hold }), |_| {
                format!("Hold {} ({}) is lifted", hold.id, hold.reason)
            }))
        }
        HoldCommand::List { name } => {
            let holds = engine.holds(&name).await?;
            Ok(output.result(&json!({ "holds": holds }), |_| holds_text(&holds)))
        }
    }
}

fn held(on: HeldThing) -> Result<Held> {
    match (on.snapshot, on.from, on.to) {
        (Some(id), ..) => parse_id(&id).map(Held::Snapshot),
        (None, Some(from), Some(to)) => {
            Ok(Held::Between { from: parse_time(&from)?, to: parse_time(&to)? })
        }
        _ => Err(EngineError::usage(
            "say what is held",
            "Give --snapshot ID, or --from TIME and --to TIME.",
        )),
    }
}

fn read_policy(path: &Path) -> Result<Policy> {
    let file = std::fs::File::open(path).map_err(EngineError::file("read", path))?;
    let mut text = Vec::new();
    file.take(MAX_POLICY_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(EngineError::file("read", path))?;
    if text.len() as u64 > MAX_POLICY_BYTES {
        return Err(EngineError::usage(
            format!("{} is too large for a policy", path.display()),
            "A policy has a few lines; `holdfast policy set --help` shows one.",
        ));
    }
    Policy::parse(&text)
}

fn policy_title(version: &PolicyVersion) -> String {
    match version.set_at {
        Some(at) => format!("Policy, version {}, set {}", version.version, time(at)),
        None => "Policy: the default, none was set".to_owned(),
    }
}

fn rules(version: &PolicyVersion) -> String {
    let policy = &version.policy;
    let mut rows = Vec::new();
    let always = std::iter::once(("always".to_owned(), &policy.keep));
    let dated = policy
        .overrides
        .iter()
        .map(|o| (format!("{} ({} to {})", o.name, time(o.from), time(o.to)), &o.keep));
    for (when, keep) in always.chain(dated) {
        let kept = [
            ("a snapshot of each hour", keep.hourly),
            ("a snapshot of each day", keep.daily),
            ("a snapshot of each week", keep.weekly),
            ("a snapshot of each month", keep.monthly),
            ("a snapshot of each year", keep.yearly),
            ("any point", keep.any_point),
        ];
        for (what, span) in kept {
            if let Some(span) = span {
                rows.push(vec![when.clone(), what.to_owned(), span.to_string()]);
            }
        }
    }
    let mut text = table(&["when", "what", "kept for"], &rows);
    if let Some(cap) = policy.size_cap {
        let _ = write!(text, "\n\nNot more than {}, as far as only rules keep it.", bytes(cap));
    }
    text
}

fn holds_text(holds: &[Hold]) -> String {
    if holds.is_empty() {
        return "No holds.".to_owned();
    }
    let rows: Vec<_> = holds
        .iter()
        .map(|hold| {
            let on = match hold.on {
                Held::Snapshot(id) => format!("snapshot {id}"),
                Held::Between { from, to } => format!("{} to {}", time(from), time(to)),
            };
            vec![hold.id.to_string(), on, time(hold.placed_at), hold.reason.clone()]
        })
        .collect();
    table(&["id", "on", "placed", "reason"], &rows)
}

fn reasons(list: &[Reason]) -> String {
    let texts: Vec<_> = list.iter().map(Reason::text).collect();
    texts.join("; ")
}

fn fate(kept: bool) -> String {
    if kept { "keep" } else { "drop" }.to_owned()
}

fn plan_text(plan: &RetentionPlan) -> String {
    let mut text = format!("{}\n{}\n\n", policy_title(&plan.policy), time(plan.at));
    let rows: Vec<_> = plan
        .snapshots
        .iter()
        .map(|s| {
            vec![
                fate(s.kept),
                s.id.clone(),
                time(s.started_at),
                s.timeline.to_string(),
                s.start_lsn.to_string(),
                bytes(s.bytes_added),
                reasons(&s.reasons),
            ]
        })
        .collect();
    let head = ["", "snapshot", "started", "timeline", "from", "added", "because"];
    text.push_str(&table(&head, &rows));
    let rows: Vec<_> = plan
        .wal
        .iter()
        .map(|w| {
            vec![
                fate(w.kept),
                w.timeline.to_string(),
                w.from_lsn.to_string(),
                w.to_lsn.to_string(),
                w.segments.to_string(),
                bytes(w.bytes),
                reasons(&w.reasons),
            ]
        })
        .collect();
    let head = ["", "timeline", "WAL from", "to", "segments", "size", "because"];
    let _ = write!(text, "\n\n{}", table(&head, &rows));
    let _ = write!(
        text,
        "\n\nKept {}, not kept {}. This is a plan: nothing was removed.",
        bytes(plan.size.kept),
        bytes(plan.size.dying)
    );
    for warning in &plan.warnings {
        let _ = write!(text, "\nwarning: {warning}");
    }
    text
}

/// What was done about the locks of a store, beginning with a line of its own; nothing where it has no rule.
pub(crate) fn locks_renewed(locks: Option<&LocksRenewed>) -> String {
    let Some(locks) = locks else { return String::new() };
    let mut text = format!(
        "\nThe store locks what is put for {} days; {} objects that are needed are locked for as long again.",
        locks.days, locks.renewed
    );
    if locks.refused > 0 {
        let _ = write!(
            text,
            "\nThe locks of {} objects that are needed could not be renewed: they can be removed once these end.",
            locks.refused
        );
    }
    for example in &locks.examples {
        let _ = write!(text, "\n  {}: {}", example.object, example.message);
    }
    text
}
