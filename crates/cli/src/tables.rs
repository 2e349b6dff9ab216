//! Results for people: short tables and sentences.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use holdfast_engine::archive::{ArchiveResult, Durability, MarkerKind};
use holdfast_engine::backup::{BackupResult, Source};
use holdfast_engine::cluster::{ClusterCheck, ClusterSummary};
use holdfast_engine::demo::DemoResult;
use holdfast_engine::find::{
    Found, FoundEvent, FoundKind, FoundOutcome, LossChanges, Markers, TableIdentity,
};
use holdfast_engine::jobs::JobSummary;
use holdfast_engine::points::{Commit, Points};
use holdfast_engine::rescue::{MergeMode, RescueResult};
use holdfast_engine::restore::{Inspection, RestorePlan, RestoreResult};
use holdfast_engine::size::bytes;
use holdfast_engine::{Finding, PhaseTime, Severity};

/// UTC with milliseconds.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn optional(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "unknown".to_owned(), time)
}

/// A name or a value out of a database must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Lines up columns.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let text: Vec<_> =
            cells.zip(&widths).map(|(c, w)| format!("{:<w$}", printable(c))).collect();
        text.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

fn phases(list: &[PhaseTime]) -> String {
    let rows: Vec<_> = list
        .iter()
        .map(|p| {
            vec![
                p.name.clone(),
                format!("{:.2} s", p.seconds),
                p.bytes.map(bytes).unwrap_or_default(),
            ]
        })
        .collect();
    table(&["phase", "time", "bytes"], &rows)
}

fn findings(list: &[Finding]) -> String {
    let mut text = String::new();
    for f in list {
        let mark = match f.severity {
            Severity::Ok => "ok     ",
            Severity::Info => "info   ",
            Severity::Warning => "warning",
            Severity::Error => "ERROR  ",
        };
        let _ = write!(text, "\n  {mark}  {}", f.message);
        if let Some(repair) = &f.repair {
            let _ = write!(text, "\n           {repair}");
        }
    }
    text
}

pub(crate) fn clusters(list: &[ClusterSummary]) -> String {
    if list.is_empty() {
        return "No clusters. Add one with `holdfast cluster add NAME --dsn DSN`.".to_owned();
    }
    let rows: Vec<_> = list
        .iter()
        .map(|c| {
            vec![
                c.name.clone(),
                c.server_version.clone(),
                c.system_identifier.clone(),
                c.dsn.clone(),
            ]
        })
        .collect();
    table(&["name", "PostgreSQL", "system identifier", "dsn"], &rows)
}

/// What was found, and how to go back to before it.
pub(crate) fn found(found: &Found) -> String {
    let mut text = if found.events.is_empty() {
        format!("Nothing of the kind from {} to {}.", found.from_lsn, found.to_lsn)
    } else {
        let rows: Vec<_> = found
            .events
            .iter()
            .map(|e| {
                vec![
                    time(e.by.commit_time),
                    e.by.xid.clone(),
                    e.by.commit_lsn.to_string(),
                    what_happened(e),
                    relation(&e.table),
                ]
            })
            .collect();
        table(&["ended", "transaction", "LSN", "what", "where"], &rows)
    };
    if found.truncated {
        text.push_str("\nThere is more: narrow it down with --from and --to.");
    }
    for gap in &found.gaps {
        let _ = write!(
            text,
            "\nNot known: what happened from {} to {} ({}).",
            gap.from_lsn, gap.to_lsn, gap.explanation
        );
    }
    if !found.names_known {
        text.push_str(
            "\nNo snapshot of the time is stored: tables are shown by the numbers of their files.",
        );
    }
    let newest = found.events.iter().rev().find(|e| e.outcome == FoundOutcome::Committed);
    if let Some(event) = newest {
        let _ = write!(
            text,
            "\n\nJust before the last of these:\n  holdfast restore plan {} --target {} --exclusive --to DIR",
            found.cluster, event.by.target
        );
    }
    text
}

/// What destroyed rows, in WAL order.
pub(crate) fn markers(m: &Markers) -> String {
    let mut text = if m.markers.is_empty() {
        "Nothing destroyed rows in what is indexed.".to_owned()
    } else {
        let rows: Vec<_> = m
            .markers
            .iter()
            .map(|e| {
                let about = if e.begun_before { "at least " } else { "" };
                let estimate =
                    e.rows_estimate.map_or(String::new(), |n| format!(" (about {n} rows)"));
                let what = match e.kind {
                    MarkerKind::Delete => {
                        format!("{about}{} deleted", e.rows.unwrap_or_default())
                    }
                    MarkerKind::Truncate => format!("truncated{estimate}"),
                    MarkerKind::Rewrite => "rewritten".to_owned(),
                    MarkerKind::Drop => format!("dropped{estimate}"),
                    MarkerKind::DropDatabase => "database dropped".to_owned(),
                };
                let place = match e.relations {
                    1 => relation(&e.table),
                    n => format!("{}, {n} relations without a name", database(&e.table)),
                };
                vec![time(e.by.commit_time), e.by.xid.clone(), what, place]
            })
            .collect();
        table(&["committed", "transaction", "what", "where"], &rows)
    };
    if m.omitted > 0 {
        let _ =
            write!(text, "\n{} more transactions: narrow it down with --from and --to.", m.omitted);
    }
    for u in &m.unknown {
        let _ = write!(text, "\nNot known: what happened from {} to {}.", u.from_lsn, u.to_lsn);
    }
    text
}

fn what_happened(event: &FoundEvent) -> String {
    let rows = event.rows;
    let estimate = event.rows_estimate.map_or(String::new(), |n| format!(" (about {n} rows)"));
    let told = match event.kind {
        FoundKind::Truncate => format!("truncated{estimate}"),
        FoundKind::Rewrite => "rewritten".to_owned(),
        FoundKind::Drop => format!("dropped{estimate}"),
        FoundKind::DropDatabase => "database dropped".to_owned(),
        FoundKind::Insert | FoundKind::Update | FoundKind::Delete => {
            let parts =
                [(rows.deleted, "deleted"), (rows.updated, "updated"), (rows.inserted, "inserted")];
            let parts: Vec<_> = parts
                .iter()
                .filter(|(n, _)| *n > 0)
                .map(|(n, word)| format!("{n} {word}"))
                .collect();
            parts.join(", ")
        }
    };
    if event.outcome == FoundOutcome::Aborted { format!("{told}, rolled back") } else { told }
}

fn database(table: &TableIdentity) -> String {
    table.database.clone().unwrap_or_else(|| format!("database {}", table.database_oid))
}

fn relation(table: &TableIdentity) -> String {
    let database = printable(&database(table));
    match (table.relation.as_deref().map(printable), table.relfilenode) {
        (Some(relation), _) => format!("{database}.{relation}"),
        (None, Some(file)) => format!("{database}, file {file}"),
        (None, None) => database,
    }
}

pub(crate) fn check(c: &ClusterCheck) -> String {
    let verdict = match c.mode {
        Some(_) if c.findings.iter().all(|f| f.severity < Severity::Error) => {
            "It can be backed up."
        }
        _ => "It cannot be backed up yet.",
    };
    format!("{verdict}{}", findings(&c.findings))
}

pub(crate) fn backup(r: &BackupResult) -> String {
    let mut text = format!(
        "Snapshot {}\n{} files, {}; {} added to the repository\nconsistent at {} on timeline {}\n\n{}",
        r.snapshot.id,
        r.files,
        bytes(r.snapshot.bytes_logical),
        bytes(r.snapshot.bytes_added),
        r.snapshot.stop_lsn,
        r.snapshot.timeline,
        phases(&r.phases)
    );
    if r.transfer.from == Source::Files {
        text.push_str(
            "\n\nthe files were read beside the server; the manifest of them is Holdfast's",
        );
    }
    if r.transfer.zstd {
        let _ = write!(
            text,
            "\n\n{} came over the network, compressed by the server",
            bytes(r.transfer.bytes)
        );
    }
    if let Some(basis) = &r.basis {
        let _ = write!(text, "\n\nincremental: only what changed since snapshot {basis} was read");
    }
    if let Some(because) = &r.full_because {
        let _ = write!(text, "\n\nfull, not incremental: {because}");
    }
    if !r.page_findings.is_empty() {
        let _ = write!(
            text,
            "\n\n{} damaged pages:{}",
            r.snapshot.page_findings,
            findings(&r.page_findings)
        );
    }
    text
}

pub(crate) fn archived(r: &ArchiveResult) -> String {
    let mut text = format!("WAL up to {} is durable (timeline {})", r.durable_lsn, r.timeline);
    if r.durability == Durability::Spool {
        let _ = write!(
            text,
            "\nin the spool of this machine; the store has it up to {}: what lies between is lost with this disk",
            r.stored_lsn
        );
    }
    for gap in &r.gaps {
        let _ = write!(
            text,
            "\nGAP from {} to {} on timeline {}: {}",
            gap.from_lsn, gap.to_lsn, gap.timeline, gap.explanation
        );
    }
    if let Some(snapshot) = &r.backup {
        let _ = write!(text, "\nSnapshot {snapshot} was taken after it");
    }
    if let Some(needs) = &r.needs_snapshot {
        let _ = write!(text, "\nA NEW BACKUP IS NEEDED: {}", needs.message);
    }
    text
}

pub(crate) fn points(p: &Points) -> String {
    let mut text = String::new();
    let rows: Vec<_> = p
        .snapshots
        .iter()
        .map(|s| {
            vec![
                s.id.clone(),
                time(s.finished_at),
                s.stop_lsn.to_string(),
                bytes(s.bytes_logical),
                bytes(s.bytes_added),
                format!("{:?}", s.state).to_lowercase(),
            ]
        })
        .collect();
    if rows.is_empty() {
        let _ = write!(text, "No snapshots. Take one with `holdfast backup {}`.", p.cluster);
    } else {
        text.push_str(&table(&["snapshot", "consistent", "lsn", "size", "added", "state"], &rows));
    }
    let rows: Vec<_> = p
        .windows
        .iter()
        .map(|w| {
            vec![
                w.timeline.to_string(),
                optional(w.from),
                optional(w.to),
                w.from_lsn.to_string(),
                w.to_lsn.to_string(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(&["timeline", "first commit", "last commit", "from", "to"], &rows));
    }
    for gap in &p.gaps {
        let _ = write!(
            text,
            "\nGAP from {} to {} on timeline {}: {}",
            gap.from_lsn, gap.to_lsn, gap.timeline, gap.explanation
        );
    }
    for change in &p.system_changes {
        let _ = write!(
            text,
            "\nANOTHER SYSTEM since {}: {} (PostgreSQL {}): {}",
            time(change.detected_at),
            change.found,
            change.found_version,
            change.cause.describe()
        );
    }
    if let Some(needs) = &p.needs_snapshot {
        let _ = write!(text, "\nA NEW BACKUP IS NEEDED: {}", needs.message);
    }
    let rows: Vec<_> = p
        .restore_points
        .iter()
        .map(|r| vec![r.name.clone(), time(r.time), r.lsn.to_string()])
        .collect();
    if !rows.is_empty() {
        text.push_str("\n\n");
        text.push_str(&table(&["restore point", "made", "lsn"], &rows));
    }
    text
}

fn commit(c: Option<&Commit>) -> String {
    c.map_or_else(
        || "none".to_owned(),
        |c| format!("xid {} at {} ({})", c.xid, time(c.time), c.lsn),
    )
}

pub(crate) fn plan(p: &RestorePlan) -> String {
    let mut text = format!(
        "Plan {}\n\nTarget        {}{}\nSnapshot      {} of {}\nStops at      {} (last transaction {}, {})\n\
         First left out  {}\nLost          {} transactions, {} of WAL\nDestination   {}\nNeeds         {} ({} free)\n\nSteps",
        p.hash,
        p.target,
        if p.exclusive { " (exclusive)" } else { "" },
        p.snapshot.id,
        time(p.snapshot.finished_at),
        p.predicted.lsn,
        p.predicted.xid.as_deref().unwrap_or("none"),
        optional(p.predicted.commit_time),
        commit(p.stops_before.as_ref()),
        p.loss.transactions,
        bytes(p.loss.wal_bytes),
        p.destination,
        bytes(p.bytes_needed),
        p.bytes_free.map_or_else(|| "unknown".to_owned(), bytes),
    );
    for step in &p.steps {
        let _ = write!(text, "\n  {}: {}", step.title, step.detail);
    }
    text.push_str(&loss(p.loss.changes.as_ref()));
    text.push_str("\n\nThis host");
    text.push_str(&findings(&p.host_findings));
    let _ = write!(text, "\n\nRun it:\n  {} --plan-hash {}", p.command, p.hash);
    text
}

pub(crate) fn restore(r: &RestoreResult) -> String {
    let mut text = format!(
        "{}\n\nStopped at      {} (last transaction {}, {})\nFirst left out  {}\nData directory  {}",
        if r.verified { "Restored and verified." } else { "Restored, NOT verified." },
        r.reached.lsn,
        r.reached.xid.as_deref().unwrap_or("none"),
        optional(r.reached.commit_time),
        commit(r.stopped_before.as_ref()),
        r.data_directory,
    );
    if r.bytes_reused > 0 {
        let _ = write!(
            text,
            "\nKept            {} that stood there already; {} written",
            bytes(r.bytes_reused),
            bytes(r.bytes_written)
        );
    }
    if let Some(kept) = &r.configuration {
        let _ = write!(
            text,
            "\nConfiguration   {}: what the source had outside its data directory; not in use here",
            kept.directory
        );
        for path in &kept.missing {
            let _ = write!(
                text,
                "\n                {path} is in no backup: the role could not read it"
            );
        }
    }
    if let Some(dsn) = &r.dsn {
        let _ = write!(
            text,
            "\nConnect         psql \"{dsn}\"\nRemove          holdfast restore discard {}",
            r.job
        );
    }
    let _ = write!(text, "\n\nChecks{}\n\n{}", findings(&r.checks), phases(&r.phases));
    text
}

pub(crate) fn inspection(i: &Inspection) -> String {
    let titles: Vec<_> = i.columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = i
        .rows
        .iter()
        .map(|row| row.iter().map(|c| c.clone().unwrap_or_else(|| "NULL".to_owned())).collect())
        .collect();
    let more = if i.truncated { " (there are more)" } else { "" };
    format!("{}\n{} rows{more}", table(&titles, &rows), i.rows.len())
}

/// What going back discards, table by table.
fn loss(changes: Option<&LossChanges>) -> String {
    let Some(c) = changes else {
        return "\n\nWhich rows are lost is not known: the WAL could not be looked at in time."
            .to_owned();
    };
    let mut text = String::from("\n\nLost, by table");
    if c.lower_bound {
        text.push_str(" (at least)");
    }
    let rows: Vec<_> = c
        .relations
        .iter()
        .map(|r| {
            vec![
                relation(&r.table),
                r.rows.inserted.to_string(),
                r.rows.updated.to_string(),
                r.rows.deleted.to_string(),
            ]
        })
        .collect();
    if rows.is_empty() {
        text.push_str(": no rows in what was looked at.");
    } else {
        let _ = write!(text, "\n{}", table(&["table", "inserted", "updated", "deleted"], &rows));
    }
    if c.relations_more > 0 {
        let _ = write!(text, "\nand {} more tables.", c.relations_more);
    }
    match &c.events {
        None => text.push_str("\nTruncated, dropped and rewritten tables: unknown."),
        Some(events) => {
            for e in events {
                let _ = write!(
                    text,
                    "\n{}  {} in transaction {}",
                    relation(&e.table),
                    what_happened(e),
                    e.by.xid
                );
            }
        }
    }
    match c.schema_changes {
        None => text.push_str("\nChanges of the schema: unknown."),
        Some(0) => {}
        Some(n) => {
            let _ = write!(text, "\n{n} transactions changed the schema.");
        }
    }
    if c.wal_bytes_left > 0 {
        let _ = write!(
            text,
            "\nOnly the first {} of the discarded WAL were looked at; {} more are unknown. --whole-loss looks further.",
            bytes(c.to_lsn.distance_from(c.from_lsn)),
            bytes(c.wal_bytes_left)
        );
    }
    for gap in &c.gaps {
        let _ = write!(
            text,
            "\nUnknown: from {} to {} ({}).",
            gap.from_lsn, gap.to_lsn, gap.explanation
        );
    }
    text
}

/// What was rescued, and the rows that are others now.
pub(crate) fn rescued(r: &RescueResult) -> String {
    let number = |n: Option<u64>| n.map_or(String::new(), |n| n.to_string());
    let rows: Vec<_> = r
        .tables
        .iter()
        .map(|t| {
            let m = t.merged.as_ref();
            vec![
                t.table.clone(),
                t.rows.to_string(),
                t.referred_to.to_string(),
                number(m.map(|m| m.missing)),
                number(m.map(|m| m.changed)),
                number(m.map(|m| m.same)),
                number(m.map(|m| m.inserted)),
                number(m.map(|m| m.overwritten)),
            ]
        })
        .collect();
    let mut text = format!(
        "As of {} (last transaction {}), database {}:\n\n",
        r.reached.lsn,
        r.reached.xid.as_deref().unwrap_or("none"),
        r.database
    );
    let head = [
        "table",
        "rows",
        "referred to",
        "missing now",
        "changed",
        "same",
        "put back",
        "overwritten",
    ];
    let columns = if r.file.is_some() { 3 } else { head.len() };
    let rows: Vec<_> = rows.into_iter().map(|row| row[..columns].to_vec()).collect();
    text.push_str(&table(&head[..columns], &rows));
    for t in &r.tables {
        let Some(m) = &t.merged else { continue };
        for c in &m.conflicts {
            let _ = write!(text, "\n\n{} {} was, and is now:", t.table, fields(&c.key));
            for (name, then) in &c.then {
                let now = c.now.get(name).cloned().flatten();
                let _ =
                    write!(text, "\n  {name}: {} | {}", shown(then.as_ref()), shown(now.as_ref()));
            }
        }
        if m.changed > m.conflicts.len() as u64 {
            let _ = write!(text, "\n{}: {} changed rows in all.", t.table, m.changed);
        }
        if m.altered > 0 {
            let _ = write!(
                text,
                "\n{}: {} written rows are not as they were; triggers: {}.",
                t.table,
                m.altered,
                m.triggers.join(", ")
            );
        }
        if !m.columns_left_out.is_empty() {
            let _ = write!(text, "\n{}: left out: {}.", t.table, m.columns_left_out.join(", "));
        }
        for column in &m.columns_widened {
            let _ = write!(text, "\n{}: {column}.", t.table);
        }
        for sequence in &m.sequences {
            let _ = write!(text, "\nSequence set: {sequence}.");
        }
    }
    match (&r.file, r.mode) {
        (Some(file), _) => {
            let _ = write!(text, "\n\n{file}: {}", bytes(r.bytes.unwrap_or_default()));
        }
        (None, Some(MergeMode::Review)) => {
            text.push_str(
                "\n\nNothing was written. Without --review the missing rows are put back.",
            );
        }
        _ => text.push_str("\n\nMerged in one transaction."),
    }
    text
}

fn fields(values: &std::collections::BTreeMap<String, Option<String>>) -> String {
    let parts: Vec<_> =
        values.iter().map(|(name, value)| format!("{name}={}", shown(value.as_ref()))).collect();
    parts.join(", ")
}

fn shown(value: Option<&String>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| printable(value))
}

pub(crate) fn jobs(list: &[JobSummary]) -> String {
    if list.is_empty() {
        return "No jobs yet.".to_owned();
    }
    let rows: Vec<_> = list
        .iter()
        .map(|j| {
            vec![
                j.id.to_string(),
                time(j.created_at),
                match (j.paused, j.resumable) {
                    (true, _) => "paused".to_owned(),
                    (_, true) => format!("{}, can be resumed", j.state.as_str()),
                    _ => j.state.as_str().to_owned(),
                },
                j.title.clone(),
                j.error.as_ref().map(|e| e.message.clone()).unwrap_or_default(),
            ]
        })
        .collect();
    table(&["job", "began", "state", "what", "error"], &rows)
}

pub(crate) fn demo(d: &DemoResult) -> String {
    let rows: Vec<_> = d
        .tables
        .iter()
        .map(|t| {
            let restored = t.restored.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
            let exact = if t.restored == Some(t.at_target) { "exact" } else { "DIFFERS" };
            vec![
                t.table.clone(),
                t.at_target.to_string(),
                t.after_disaster.to_string(),
                restored,
                exact.to_owned(),
            ]
        })
        .collect();
    let mut text = table(&["table", "before the DELETE", "after it", "restored", ""], &rows);
    text.push_str("\n\n");
    let seconds: Vec<_> =
        d.seconds.iter().map(|(n, s)| vec![n.clone(), format!("{s:.2} s")]).collect();
    text.push_str(&table(&["phase", "time"], &seconds));
    if let Some(r) = &d.restore {
        let _ = write!(
            text,
            "\n\nRestored to {} (last transaction {}), left out {}.\n{}",
            r.reached.lsn,
            r.reached.xid.as_deref().unwrap_or("none"),
            commit(r.stopped_before.as_ref()),
            if d.verified { "Every row count is exact." } else { "NOT verified." }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_holds_does_not_steer_the_terminal() {
        let rows = [vec!["\u{1b}[2Jgone\nnext".to_owned()]];
        assert_eq!(table(&["a"], &rows), "a\n [2Jgone next");
        assert_eq!(shown(Some(&"a\u{7}b".to_owned())), "a b");
        assert_eq!(shown(None), "NULL");
    }
}
