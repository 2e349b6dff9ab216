//! Merging rescued rows into a live database: one transaction, nothing overwritten unasked.
//!
//! The rows are copied into temporary tables beside the live ones. Then the live ones are locked against
//! writers, the rows are compared by key, and written parents first. Everything is checked before the
//! commit is sent; until then a failure, or a cancellation, leaves the live database as it was, but for
//! sequences: these are no part of a transaction, and one that was set forward has a gap.

use std::collections::BTreeMap;

use holdfast_wire::{Connection, ResultSet, WireError};
use serde::{Deserialize, Serialize};

use super::catalog::{
    ForeignKey, Table, agree_on_text, encoding_of, foreign_keys, identifier, literal, read,
    sequences_of, table, told,
};
use super::columns::{Pairing, pair};
use super::order::{Order, order};
use super::{MergeMode, Wanted};
use crate::error::{EngineError, Result};
use crate::jobs::JobContext;

/// At most this many changed rows of a table are shown.
const CONFLICTS_SHOWN: usize = 20;
/// So many characters of a value are shown.
const VALUE_SHOWN: usize = 200;
/// How long a lock on a live table is waited for.
const LOCK_TIMEOUT: &str = "30s";
/// How long the live server holds locks for a merge that does not say anything.
const SILENCE_TIMEOUT: &str = "60s";

/// A row that is another one now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Conflict {
    /// Its key.
    pub key: BTreeMap<String, Option<String>>,
    /// What differs, as it was; the first 200 characters of each value.
    pub then: BTreeMap<String, Option<String>>,
    /// The same columns as they are now.
    pub now: BTreeMap<String, Option<String>>,
}

/// What a merge found and did in one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct MergedTable {
    /// Rows of the point that the live table does not have; of rows that are only referred to those
    /// that are needed.
    #[ts(type = "number")]
    pub missing: u64,
    /// Rows that are there with other content.
    #[ts(type = "number")]
    pub changed: u64,
    /// Rows that are there just as they were.
    #[ts(type = "number")]
    pub same: u64,
    /// Missing rows that were put back.
    #[ts(type = "number")]
    pub inserted: u64,
    /// Changed rows that were set to what they were.
    #[ts(type = "number")]
    pub overwritten: u64,
    /// Written rows that are not as they were at the point, because a trigger or a rule of the live
    /// table made something else of them.
    #[ts(type = "number")]
    pub altered: u64,
    /// Changed rows, at most 20.
    pub conflicts: Vec<Conflict>,
    /// Columns of the point that the live table does not have or works out itself.
    pub columns_left_out: Vec<String>,
    /// Columns whose type has changed since, as `name: then, now`.
    pub columns_widened: Vec<String>,
    /// Triggers of users on the live table; they ran, unless they were to be left out.
    pub triggers: Vec<String>,
    /// Sequences that were set forward, as `name: value`.
    pub sequences: Vec<String>,
}

/// One table on both sides.
struct Side<'a> {
    wanted: &'a Wanted,
    live: Table,
    pairing: Pairing,
    /// The temporary table that holds the rows of the point.
    name: String,
    merged: MergedTable,
}

const PARENT: &str = "_holdfast_parent";
const STATE: &str = "_holdfast_state";

impl Side<'_> {
    fn columns(&self, alias: &str) -> String {
        let list: Vec<_> =
            self.pairing.shared.iter().map(|c| format!("{alias}{}", c.sql)).collect();
        list.join(", ")
    }

    fn row(&self, alias: &str) -> String {
        format!("ROW({})::text", self.columns(alias))
    }

    fn same_key(&self) -> String {
        self.live.same_key("l", "r")
    }

    fn has(&self, columns: &[String]) -> bool {
        columns.iter().all(|c| self.pairing.shared.iter().any(|s| s.name == *c))
    }
}

/// Merges `wanted` out of `source` into `live`.
pub(super) async fn merge(
    source: &mut Connection,
    mut live: Connection,
    wanted: &[Wanted],
    mode: MergeMode,
    without_triggers: bool,
    job: &JobContext,
) -> Result<Vec<MergedTable>> {
    // A connection that is dropped in the middle takes its transaction with it.
    let work = prepare(source, &mut live, wanted, mode, without_triggers, job);
    let merged = tokio::select! {
        merged = work => merged?,
        () = job.cancel.cancelled() => return Err(EngineError::Cancelled),
    };
    job.check()?;
    if mode == MergeMode::Review {
        live.query("ROLLBACK").await?;
    } else {
        committed(live.query("COMMIT").await)?;
    }
    live.close().await;
    Ok(merged)
}

/// Whether the commit was made, by what came of it. After an error the transaction is rolled back; a
/// server that hangs up, with or without a word, may have committed before (xact.c: nobody is told
/// between the record of the commit and the end of the command).
fn committed(answer: std::result::Result<Vec<ResultSet>, WireError>) -> Result<()> {
    match answer {
        // A transaction that has failed answers a COMMIT with ROLLBACK.
        Ok(sets) if sets.last().is_some_and(|set| set.tag == "COMMIT") => Ok(()),
        Ok(_) => Err(EngineError::Fault("the server rolled the merge back unasked".to_owned())),
        Err(WireError::Server(error)) if error.severity == "ERROR" => {
            Err(refusal(WireError::Server(error).into()))
        }
        Err(error) => Err(EngineError::refused(
            "commit_unknown",
            format!(
                "the connection broke while the merge was committed; whether it was is not known: {error}"
            ),
            "Run the same command with --review: rows that are told as the same are back.",
        )),
    }
}

/// Everything but the commit.
async fn prepare(
    source: &mut Connection,
    live: &mut Connection,
    wanted: &[Wanted],
    mode: MergeMode,
    without_triggers: bool,
    job: &JobContext,
) -> Result<Vec<MergedTable>> {
    let encoding = encoding_of(source).await?;
    agree_on_text(source, &encoding, false).await?;
    begin(live, mode).await?;
    agree_on_text(live, &encoding, true).await?;
    hold(live, wanted).await?;
    let mut sides = Vec::new();
    for (n, wanted) in wanted.iter().enumerate() {
        sides.push(side(live, wanted, n).await?);
    }
    let live_tables: Vec<_> = sides.iter().map(|s| s.live.clone()).collect();
    let keys = foreign_keys(live).await?;
    let order = order(&live_tables, &keys)?;
    job.reporter.phase("copying rows", Some("bytes"), None);
    let mut copied = 0;
    for side in &sides {
        copy(source, live, side, &mut copied, job).await?;
    }
    if mode != MergeMode::Review {
        job.reporter.phase("locking", None, None);
        lock(live, &sides).await?;
    }
    job.reporter.phase("comparing", None, None);
    for side in &mut sides {
        compare(live, side).await?;
    }
    need_parents(live, &sides, &keys, mode).await?;
    for side in &mut sides {
        count(live, side).await?;
    }
    if mode == MergeMode::Review {
        return Ok(sides.into_iter().map(|side| side.merged).collect());
    }
    job.reporter.phase("merging", None, None);
    // What triggers and defaults make of a moment is up to the role's own settings again.
    live.query("RESET timezone; RESET datestyle; RESET intervalstyle; RESET bytea_output").await?;
    let stopped = if without_triggers { stop_triggers(live, &sides).await? } else { Vec::new() };
    write(live, &mut sides, &order, mode).await?;
    for side in &mut sides {
        look_again(live, side, mode).await?;
        set_sequences(live, side).await?;
    }
    for statement in stopped {
        live.query(&statement).await?;
    }
    Ok(sides.into_iter().map(|side| side.merged).collect())
}

async fn side<'a>(live: &mut Connection, wanted: &'a Wanted, n: usize) -> Result<Side<'a>> {
    let name = &wanted.table.sql;
    let now = table(live, name).await?.filter(|t| t.kind != "m").ok_or_else(|| missing(name))?;
    let pairing = pair(&wanted.table, &now)?;
    if now.key.is_empty() || !now.key.iter().all(|k| pairing.shared.iter().any(|c| c.name == *k)) {
        return Err(EngineError::refused(
            "no_primary_key",
            format!("the live table {name} has no key that its rows had at that point, too"),
            "Without a key a row cannot be told from another. Rescue into a file (--into rows.sql) and look at it.",
        ));
    }
    let merged = MergedTable {
        columns_left_out: pairing.left_out.clone(),
        columns_widened: pairing.widened.clone(),
        triggers: now.triggers.clone(),
        ..MergedTable::default()
    };
    Ok(Side { wanted, live: now, pairing, name: format!("pg_temp.holdfast_side_{n}"), merged })
}

fn missing(name: &str) -> EngineError {
    EngineError::refused(
        "live_table_missing",
        format!("the live database has no table {name}"),
        "Rescue it into a file: without --where that file makes the table, too.",
    )
}

/// Opens the transaction. Everything is set for it alone, so that nothing stays in a session that a
/// pooler lends.
async fn begin(live: &mut Connection, mode: MergeMode) -> Result<()> {
    let isolation = if mode == MergeMode::Review { "REPEATABLE READ" } else { "READ COMMITTED" };
    live.query(&format!(
        "BEGIN ISOLATION LEVEL {isolation}; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SAVEPOINT watched"
    ))
    .await?;
    // A server whose client is gone lets its locks go within seconds, also in the middle of a statement.
    // Not every platform can look.
    let watched = live
        .query(
            "SET LOCAL client_connection_check_interval = '2s'; SET LOCAL tcp_keepalives_idle = 15; \
             SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 3",
        )
        .await;
    match watched {
        Err(WireError::Server(error)) if error.severity == "ERROR" => {
            live.query("ROLLBACK TO SAVEPOINT watched").await?;
        }
        other => drop(other?),
    }
    Ok(())
}

/// Keeps the live tables as they are defined until the end. This blocks neither readers nor writers.
async fn hold(live: &mut Connection, wanted: &[Wanted]) -> Result<()> {
    for wanted in wanted {
        let name = &wanted.table.sql;
        match live.query(&format!("LOCK TABLE {name} IN ACCESS SHARE MODE")).await {
            Ok(_) => {}
            // There is none, no schema for it, or something else has its name.
            Err(error) if matches!(error.sqlstate(), Some("42P01" | "3F000" | "42809")) => {
                return Err(missing(name));
            }
            Err(error) => return Err(refusal(error.into())),
        }
    }
    Ok(())
}

/// Keeps writers away from here to the end, in an order that two merges share.
async fn lock(live: &mut Connection, sides: &[Side<'_>]) -> Result<()> {
    let mut names: Vec<_> = sides.iter().map(|s| (s.live.oid, s.live.from())).collect();
    names.sort();
    let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
    let sql = format!(
        "SET LOCAL idle_in_transaction_session_timeout = '{SILENCE_TIMEOUT}'; \
         LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE",
        names.join(", ")
    );
    live.query(&sql).await.map_err(|e| refusal(e.into()))?;
    Ok(())
}

/// Copies the rows of the point beside the live table.
async fn copy(
    source: &mut Connection,
    live: &mut Connection,
    side: &Side<'_>,
    copied: &mut u64,
    job: &JobContext,
) -> Result<()> {
    let bare = side.name.trim_start_matches("pg_temp.");
    let columns = side.columns("");
    live.query(&format!(
        "CREATE TEMPORARY TABLE {bare} ON COMMIT DROP AS \
         SELECT {columns}, false AS {PARENT}, 'missing'::text AS {STATE} FROM {} WITH NO DATA; \
         ALTER TABLE {} ALTER {STATE} SET DEFAULT 'missing'",
        side.live.from(),
        side.name
    ))
    .await
    .map_err(|e| refusal(e.into()))?;
    let out = format!(
        "COPY (SELECT {}, {} FROM {}) TO STDOUT",
        side.columns("t."),
        side.wanted.parent,
        side.wanted.rows
    );
    let into = format!("COPY {} ({columns}, {PARENT}) FROM STDIN", side.name);
    let mut from = source.copy_out(&out).await?;
    let mut to = live.copy_in(&into).await?;
    while let Some(bytes) = from.next().await? {
        to.send(&bytes).await?;
        *copied += bytes.len() as u64;
        job.reporter.done(*copied);
    }
    to.finish().await.map_err(|e| refusal(e.into()))?;
    let keys: Vec<_> = side.live.key.iter().map(|k| identifier(k)).collect();
    let index =
        format!("CREATE UNIQUE INDEX ON {0} ({1}); ANALYZE {0}", side.name, keys.join(", "));
    match live.query(&index).await {
        Ok(_) => Ok(()),
        Err(error) if error.sqlstate() == Some("23505") => Err(EngineError::refused(
            "rows_share_a_key",
            format!("at that point several rows of {} had what is one key now", side.live.sql),
            "The live table's key has changed since. Rescue into a file (--into rows.sql) and load it by hand.",
        )),
        Err(error) => Err(refusal(error.into())),
    }
}

/// Tells of every row whether it is missing, the same or changed; rows that are only referred to wait
/// until somebody needs them.
async fn compare(live: &mut Connection, side: &Side<'_>) -> Result<()> {
    let sql = format!(
        "UPDATE {side} r SET {STATE} = CASE WHEN r.{PARENT} THEN 'present' \
           WHEN {then} IS NOT DISTINCT FROM {now} THEN 'same' ELSE 'changed' END \
         FROM {live} l WHERE {key}; \
         UPDATE {side} SET {STATE} = 'needless' WHERE {PARENT} AND {STATE} = 'missing'",
        side = side.name,
        then = side.row("r."),
        now = side.row("l."),
        live = side.live.from(),
        key = side.same_key(),
    );
    live.query(&sql).await?;
    Ok(())
}

/// Rows that a row refers to that will be written are written as well, and what they refer to.
async fn need_parents(
    live: &mut Connection,
    sides: &[Side<'_>],
    keys: &[ForeignKey],
    mode: MergeMode,
) -> Result<()> {
    let written =
        if mode == MergeMode::Overwrite { "('missing', 'changed')" } else { "('missing')" };
    loop {
        let mut needed = 0;
        for key in keys {
            let at = |oid| sides.iter().find(|s| s.live.oid == oid);
            let (Some(child), Some(parent)) = (at(key.child), at(key.parent)) else { continue };
            if !child.has(&key.child_columns) || !parent.has(&key.parent_columns) {
                continue;
            }
            let sets = live
                .query(&format!(
                    "UPDATE {} p SET {STATE} = 'missing' FROM {} c \
                     WHERE p.{STATE} = 'needless' AND c.{STATE} IN {written} AND {}",
                    parent.name,
                    child.name,
                    key.joins("p", "c")
                ))
                .await?;
            needed += affected(sets.last().map(|s| s.tag.as_str()));
        }
        if needed == 0 {
            return Ok(());
        }
    }
}

fn affected(tag: Option<&str>) -> u64 {
    tag.and_then(|t| t.rsplit(' ').next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// What a query tells of one changed row.
#[derive(Deserialize)]
struct ToldConflict {
    key: BTreeMap<String, Option<String>>,
    then: BTreeMap<String, Option<String>>,
    now: BTreeMap<String, Option<String>>,
    differs: BTreeMap<String, Option<String>>,
}

/// Counts, and the changed rows to be shown.
async fn count(live: &mut Connection, side: &mut Side<'_>) -> Result<()> {
    let counts = live
        .query_row(&format!(
            "SELECT count(*) FILTER (WHERE {STATE} = 'missing'), count(*) FILTER (WHERE {STATE} = 'changed'), \
             count(*) FILTER (WHERE {STATE} = 'same') FROM {}",
            side.name
        ))
        .await?
        .unwrap_or_default();
    let mut counts = counts.into_iter().map(|n| n.and_then(|n| n.parse().ok()).unwrap_or(0));
    side.merged.missing = counts.next().unwrap_or(0);
    side.merged.changed = counts.next().unwrap_or(0);
    side.merged.same = counts.next().unwrap_or(0);
    if side.merged.missing > 0 && !side.pairing.unfilled.is_empty() {
        return Err(EngineError::refused(
            "column_added",
            format!(
                "rows of {} are missing, and its columns {} have come since, may not be null and have no default",
                side.live.sql,
                side.pairing.unfilled.join(", ")
            ),
            "Give the columns a default for the time of the merge (ALTER TABLE … ALTER … SET DEFAULT …), or rescue into a \
             file and load it by hand.",
        ));
    }
    if side.merged.changed == 0 {
        return Ok(());
    }
    let names: Vec<_> = side.pairing.shared.iter().map(|c| literal(&c.name)).collect();
    let values = |alias: &str| {
        let list: Vec<_> = side
            .pairing
            .shared
            .iter()
            .map(|c| format!("pg_catalog.left({alias}.{}::text, {VALUE_SHOWN})", c.sql))
            .collect();
        list.join(", ")
    };
    let differs: Vec<_> = side
        .pairing
        .shared
        .iter()
        .map(|c| format!("(r.{0}::text IS DISTINCT FROM l.{0}::text)::text", c.sql))
        .collect();
    let keys: Vec<_> = side.live.key.iter().map(|k| literal(k)).collect();
    let key_values: Vec<_> =
        side.live.key.iter().map(|k| format!("r.{}::text", identifier(k))).collect();
    let by: Vec<_> = side.live.key.iter().map(|k| format!("r.{}", identifier(k))).collect();
    let names = names.join(", ");
    let sets = live
        .query(&format!(
            "SELECT pg_catalog.json_build_object('key', pg_catalog.json_object(ARRAY[{}], ARRAY[{}]), \
             'then', pg_catalog.json_object(ARRAY[{names}], ARRAY[{}]), \
             'now', pg_catalog.json_object(ARRAY[{names}], ARRAY[{}]), \
             'differs', pg_catalog.json_object(ARRAY[{names}], ARRAY[{}])) \
             FROM {} r JOIN {} l ON {} WHERE r.{STATE} = 'changed' ORDER BY {} LIMIT {CONFLICTS_SHOWN}",
            keys.join(", "),
            key_values.join(", "),
            values("r"),
            values("l"),
            differs.join(", "),
            side.name,
            side.live.from(),
            side.same_key(),
            by.join(", ")
        ))
        .await?;
    for row in sets.into_iter().flat_map(|set| set.rows) {
        let Some(text) = row.into_iter().next().flatten() else { continue };
        let mut told: ToldConflict = read(&text)?;
        let differs =
            |name: &String| told.differs.get(name).is_some_and(|d| d.as_deref() == Some("true"));
        told.then.retain(|name, _| differs(name));
        told.now.retain(|name, _| differs(name));
        side.merged.conflicts.push(Conflict { key: told.key, then: told.then, now: told.now });
    }
    Ok(())
}

/// How a trigger is stopped, and set back to what it was.
#[derive(Deserialize)]
struct Stoppable {
    stop: String,
    back: String,
}

/// Stops the triggers of users; gives the statements that set each back to what it was.
async fn stop_triggers(live: &mut Connection, sides: &[Side<'_>]) -> Result<Vec<String>> {
    let mut back = Vec::new();
    for side in sides {
        let sql = format!(
            "SELECT json_agg(json_build_object(\
               'stop', format('ALTER TABLE ONLY %I.%I DISABLE TRIGGER %I', n.nspname, c.relname, t.tgname), \
               'back', format('ALTER TABLE ONLY %I.%I ENABLE %s TRIGGER %I', n.nspname, c.relname, \
                 CASE t.tgenabled WHEN 'R' THEN 'REPLICA' WHEN 'A' THEN 'ALWAYS' ELSE '' END, t.tgname))) \
             FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND (t.tgrelid = {0} OR t.tgrelid IN \
             (SELECT relid FROM pg_partition_tree({0})))",
            side.live.oid
        );
        let Some(text) = told(live, &sql).await? else { continue };
        for trigger in read::<Vec<Stoppable>>(&text)? {
            live.query(&trigger.stop).await.map_err(|e| refusal(e.into()))?;
            back.push(trigger.back);
        }
    }
    Ok(back)
}

/// Writes: missing rows parents first, then what was left out of them, then changed rows.
async fn write(
    live: &mut Connection,
    sides: &mut [Side<'_>],
    order: &Order,
    mode: MergeMode,
) -> Result<()> {
    live.query("SET CONSTRAINTS ALL DEFERRED").await?;
    for place in &order.tables {
        let (side, later) = (&mut sides[*place], &order.later[*place]);
        if side.merged.missing == 0 {
            continue;
        }
        let values: Vec<_> =
            side.pairing
                .shared
                .iter()
                .map(|c| {
                    if later.contains(&c.name) { "NULL".to_owned() } else { format!("r.{}", c.sql) }
                })
                .collect();
        let sql = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} r WHERE r.{STATE} = 'missing'",
            side.live.sql,
            side.columns(""),
            values.join(", "),
            side.name
        );
        let sets = live.query(&sql).await.map_err(|e| refusal(e.into()))?;
        side.merged.inserted = affected(sets.last().map(|s| s.tag.as_str()));
    }
    for place in &order.tables {
        let (side, later) = (&sides[*place], &order.later[*place]);
        let later: Vec<_> = later.iter().filter(|c| side.has(&[(*c).clone()])).collect();
        if later.is_empty() || side.merged.missing == 0 {
            continue;
        }
        let set: Vec<_> = later.iter().map(|c| format!("{0} = r.{0}", identifier(c))).collect();
        let any: Vec<_> =
            later.iter().map(|c| format!("r.{} IS NOT NULL", identifier(c))).collect();
        let sql = format!(
            "UPDATE {} l SET {} FROM {} r WHERE {} AND r.{STATE} = 'missing' AND ({})",
            side.live.from(),
            set.join(", "),
            side.name,
            side.same_key(),
            any.join(" OR ")
        );
        live.query(&sql).await.map_err(|e| refusal(e.into()))?;
    }
    if mode == MergeMode::Overwrite {
        for place in &order.tables {
            overwrite(live, &mut sides[*place]).await?;
        }
    }
    live.query("SET CONSTRAINTS ALL IMMEDIATE").await.map_err(|e| refusal(e.into()))?;
    Ok(())
}

async fn overwrite(live: &mut Connection, side: &mut Side<'_>) -> Result<()> {
    let set: Vec<_> = side
        .pairing
        .shared
        .iter()
        .filter(|c| !c.identity_always && !side.live.key.contains(&c.name))
        .map(|c| format!("{0} = r.{0}", c.sql))
        .collect();
    if side.merged.changed == 0 || set.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE {} l SET {} FROM {} r WHERE {} AND r.{STATE} = 'changed'",
        side.live.from(),
        set.join(", "),
        side.name,
        side.same_key()
    );
    let sets = live.query(&sql).await.map_err(|e| refusal(e.into()))?;
    side.merged.overwritten = affected(sets.last().map(|s| s.tag.as_str()));
    Ok(())
}

/// Counts the written rows that are not what they were.
async fn look_again(live: &mut Connection, side: &mut Side<'_>, mode: MergeMode) -> Result<()> {
    let written =
        if mode == MergeMode::Overwrite { "('missing', 'changed')" } else { "('missing')" };
    let altered = live
        .query_value(&format!(
            "SELECT count(*) FROM {} r WHERE r.{STATE} IN {written} AND NOT EXISTS \
             (SELECT 1 FROM {} l WHERE {} AND {} IS NOT DISTINCT FROM {})",
            side.name,
            side.live.from(),
            side.same_key(),
            side.row("l."),
            side.row("r.")
        ))
        .await?;
    side.merged.altered = altered.and_then(|n| n.parse().ok()).unwrap_or(0);
    Ok(())
}

/// Sets sequences forward, never back, past what was put back.
async fn set_sequences(live: &mut Connection, side: &mut Side<'_>) -> Result<()> {
    if side.merged.inserted == 0 {
        return Ok(());
    }
    let sequences = sequences_of(live, side.live.oid).await?;
    for sequence in sequences {
        if !side.has(std::slice::from_ref(&sequence.column)) {
            continue;
        }
        let rows = format!("{} WHERE {STATE} = 'missing'", side.name);
        let set =
            live.query_value(&sequence.set_past(&rows)).await.map_err(|e| refusal(e.into()))?;
        if let Some(value) = set {
            side.merged.sequences.push(format!("{}: {value}", sequence.name));
        }
    }
    Ok(())
}

/// What the live server's answer means to the one who merges.
fn refusal(error: EngineError) -> EngineError {
    let EngineError::Wire(wire) = &error else { return error };
    let Some(state) = wire.sqlstate() else { return error };
    let (code, hint) = match state {
        "55P03" => (
            "live_table_locked",
            "Another session holds a lock on the table. Nothing was changed; try again when it is done.",
        ),
        "23503" => (
            "live_constraint",
            "A row refers to one that the live database does not have. Rescue it as well: --follow brings what rows need. \
             Nothing was changed.",
        ),
        s if s.starts_with("23") => (
            "live_constraint",
            "What the live database holds now does not let the rows back in as they were. Nothing was changed. Rescue into \
             a file (--into rows.sql) and load it by hand.",
        ),
        s if s.starts_with("22") => (
            "value_not_accepted",
            "The live table's columns do not take a value as it was. Nothing was changed. Rescue into a file (--into \
             rows.sql) and load it by hand.",
        ),
        "42501" => (
            "live_not_permitted",
            "The role must be able to read, insert, update and lock the live tables, and to make temporary ones; to leave \
             out triggers it must own the tables. Nothing was changed.",
        ),
        _ => return error,
    };
    EngineError::Refused {
        code,
        message: format!("the live database refused: {}", server_message(&error)),
        hint: hint.to_owned(),
        details: serde_json::json!({ "sqlstate": state }),
    }
}

fn server_message(error: &EngineError) -> String {
    let EngineError::Wire(WireError::Server(server)) = error else { return error.to_string() };
    let detail = server.detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default();
    format!("{}{detail}", server.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_wire::ServerError;

    fn answered(severity: &str, sqlstate: &str) -> std::result::Result<Vec<ResultSet>, WireError> {
        Err(WireError::Server(Box::new(ServerError {
            severity: severity.to_owned(),
            sqlstate: sqlstate.to_owned(),
            ..ServerError::default()
        })))
    }

    fn tagged(tag: &str) -> Vec<ResultSet> {
        vec![ResultSet { tag: tag.to_owned(), ..ResultSet::default() }]
    }

    #[test]
    fn a_commit_counts_only_when_the_server_says_so() {
        let code = |answer| committed(answer).map_err(|e| e.to_object().code);
        assert_eq!(code(Ok(tagged("COMMIT"))), Ok(()));
        assert!(code(Ok(tagged("ROLLBACK"))).is_err_and(|code| code != "commit_unknown"));
        assert_eq!(code(answered("ERROR", "23505")), Err("live_constraint".to_owned()));
        for (severity, sqlstate) in [("FATAL", "57P01"), ("PANIC", "XX000")] {
            assert_eq!(code(answered(severity, sqlstate)), Err("commit_unknown".to_owned()));
        }
        let silent = WireError::Timeout {
            during: "committing".to_owned(),
            limit: std::time::Duration::from_secs(1),
        };
        assert_eq!(code(Err(silent)), Err("commit_unknown".to_owned()));
    }
}
