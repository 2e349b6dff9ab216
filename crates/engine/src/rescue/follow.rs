//! A row followed through foreign keys: what refers to it, what refers to that, and what all of them
//! refer to themselves.
//!
//! This is worked out on the private copy, where nothing else changes: there a row is told by its table
//! and its place in it, whether it has a key or not. What was found stands in a temporary table.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_wire::Connection;

use super::catalog::{ForeignKey, Table, foreign_keys, literal, table_of};
use crate::error::{EngineError, Result};
use crate::jobs::JobContext;

/// The rows that were found: their table, their place, since which round, and whether they are only
/// there because another row refers to them.
pub(super) const ROWS: &str = "pg_temp.holdfast_rows";

/// Follows the rows of `root` for which `condition` holds, or only notes them when not `through_keys`.
/// Gives every table that has rows among them, the root first.
pub(super) async fn follow(
    connection: &mut Connection,
    root: &Table,
    condition: Option<&str>,
    through_keys: bool,
    job: &JobContext,
) -> Result<Vec<Table>> {
    let keys: Vec<ForeignKey> =
        if through_keys { foreign_keys(connection).await? } else { Vec::new() };
    let mut tables = BTreeMap::new();
    // A partition is followed as the whole: foreign keys lead to and from the partitioned table.
    let (whole, part) = match &root.root {
        None => (root.clone(), String::new()),
        Some(name) => {
            let whole = super::catalog::table(connection, name).await?.ok_or_else(|| {
                EngineError::NotFound { what: "table at that point", name: name.clone() }
            })?;
            (whole, format!(" AND tableoid = {}::regclass::oid", literal(&root.sql)))
        }
    };
    let root_oid = whole.oid;
    let condition = condition.unwrap_or("true");
    connection
        .query(
            "CREATE TEMPORARY TABLE holdfast_rows \
             (root oid, part oid, place tid, round int, parent bool, PRIMARY KEY (part, place))",
        )
        .await?;
    let found = insert(
        connection,
        &format!(
            "SELECT {root_oid}, tableoid, ctid, 0, false FROM {} WHERE ({condition}\n){part}",
            whole.from()
        ),
    )
    .await?;
    tables.insert(root_oid, whole);
    let mut total = found;
    // First all that refer to what was found, then all that those refer to.
    for parents in [false, true] {
        let mut round = 0;
        let mut grown: BTreeSet<u32> = tables.keys().copied().collect();
        if parents {
            connection.query(&format!("UPDATE {ROWS} SET round = 0")).await?;
        }
        while !grown.is_empty() {
            job.check()?;
            let mut next = BTreeSet::new();
            for key in &keys {
                let (from, to) =
                    if parents { (key.child, key.parent) } else { (key.parent, key.child) };
                if !grown.contains(&from) {
                    continue;
                }
                for oid in [from, to] {
                    if let std::collections::btree_map::Entry::Vacant(entry) = tables.entry(oid)
                        && let Some(table) = table_of(connection, oid).await?
                    {
                        entry.insert(table);
                    }
                }
                let (Some(near), Some(far)) = (tables.get(&from), tables.get(&to)) else {
                    continue;
                };
                let rows = insert(connection, &step(key, near, far, parents, round)).await?;
                if rows > 0 {
                    total += rows;
                    next.insert(to);
                }
            }
            job.reporter.done(total);
            grown = next;
            round += 1;
        }
    }
    connection.query(&format!("ANALYZE {ROWS}")).await?;
    let with_rows = connection.query(&format!("SELECT DISTINCT root FROM {ROWS}")).await?;
    let with_rows: BTreeSet<u32> = with_rows
        .into_iter()
        .flat_map(|set| set.rows)
        .filter_map(|row| row.into_iter().next().flatten()?.parse().ok())
        .collect();
    let mut list: Vec<_> = tables.remove(&root_oid).into_iter().collect();
    list.extend(tables.into_values().filter(|t| with_rows.contains(&t.oid)));
    Ok(list)
}

/// The rows on the other side of a foreign key from those of one round.
fn step(key: &ForeignKey, near: &Table, far: &Table, parents: bool, round: u32) -> String {
    let joins = if parents { key.joins("far", "near") } else { key.joins("near", "far") };
    format!(
        "SELECT DISTINCT {}::oid, far.tableoid, far.ctid, {}, {parents} FROM {ROWS} k \
         JOIN {} AS near ON near.tableoid = k.part AND near.ctid = k.place \
         JOIN {} AS far ON {joins} WHERE k.root = {}::oid AND k.round = {round}",
        far.oid,
        round + 1,
        near.from(),
        far.from(),
        near.oid
    )
}

async fn insert(connection: &mut Connection, select: &str) -> Result<u64> {
    let sets =
        connection.query(&format!("INSERT INTO {ROWS} {select} ON CONFLICT DO NOTHING")).await?;
    let tag = sets.last().map(|set| set.tag.as_str()).unwrap_or_default();
    Ok(tag.rsplit(' ').next().and_then(|rows| rows.parse().ok()).unwrap_or(0))
}

/// Where the rows of one table come from, as `t` with `parent`.
pub(super) fn rows_of(table: &Table) -> String {
    format!("{} AS t JOIN {ROWS} AS k ON t.tableoid = k.part AND t.ctid = k.place", table.from())
}
