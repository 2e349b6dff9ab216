//! Rescued tables and rows as a file: SQL, or `pg_dump`'s own format.

use std::path::{Path, PathBuf};

use holdfast_wire::Connection;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::catalog::{
    Table, agree_on_text, encoding_of, foreign_keys, identifier, literal, read, sequences_of, told,
};
use super::follow::ROWS;
use super::order::order;
use super::{Wanted, program, run};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId};
use crate::server::private::ServerLocation;

/// Whether a file is to be in `pg_dump`'s own format.
pub(super) fn is_dump(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("dump"))
}

/// A file that only gets its name when it is whole. Whoever makes it removes the part, whatever came of it.
pub(super) struct NewFile {
    /// Where it is written.
    pub(super) part: PathBuf,
    path: PathBuf,
}

impl NewFile {
    pub(super) fn new(path: &Path, job: JobId) -> Self {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let part = path.with_file_name(format!(".{name}.holdfast-{job}"));
        Self { part, path: path.to_path_buf() }
    }

    /// Whether it is to be in `pg_dump`'s own format.
    pub(super) fn is_dump(&self) -> bool {
        is_dump(&self.path)
    }

    /// Gives it its name, unless somebody else has taken it since.
    async fn finish(&self) -> Result<()> {
        let file = tokio::fs::File::open(&self.part)
            .await
            .map_err(EngineError::file("open", &self.part))?;
        file.sync_all().await.map_err(EngineError::file("sync", &self.part))?;
        tokio::fs::hard_link(&self.part, &self.path)
            .await
            .map_err(EngineError::file("write", &self.path))
    }
}

/// Whole tables, with their definitions, by `pg_dump`.
pub(super) async fn whole_tables(
    server: &ServerLocation,
    database: &str,
    connection: &mut Connection,
    wanted: &[Wanted],
    file: &NewFile,
) -> Result<()> {
    let format = if file.is_dump() { "custom" } else { "plain" };
    dump(server, database, connection, wanted, file, &["--format", format]).await
}

/// The rows that were followed, in `pg_dump`'s own format: all others are deleted from the copy, which
/// is thrown away afterwards.
pub(super) async fn followed_rows_as_dump(
    server: &ServerLocation,
    database: &str,
    connection: &mut Connection,
    wanted: &[Wanted],
    file: &NewFile,
) -> Result<()> {
    connection.query("SET session_replication_role = replica").await?;
    for wanted in wanted {
        // Those that always fire would make something else of the copy.
        let quiet = format!("ALTER TABLE {} DISABLE TRIGGER USER", wanted.table.sql);
        connection.query(&quiet).await?;
        connection
            .query(&format!(
                "DELETE FROM {} AS t WHERE NOT EXISTS \
                 (SELECT 1 FROM {ROWS} k WHERE k.part = t.tableoid AND k.place = t.ctid)",
                wanted.table.from()
            ))
            .await?;
    }
    dump(server, database, connection, wanted, file, &["--format", "custom", "--data-only"]).await
}

async fn dump(
    server: &ServerLocation,
    database: &str,
    connection: &mut Connection,
    wanted: &[Wanted],
    file: &NewFile,
    arguments: &[&str],
) -> Result<()> {
    let mut command = tokio::process::Command::new(program(server, "pg_dump")?);
    command.args(arguments).arg("--no-password").arg("--file").arg(&file.part);
    for wanted in wanted {
        for name in parts(connection, &wanted.table).await? {
            command.arg("--table").arg(name);
        }
    }
    command.arg("--dbname").arg(server.dsn(database));
    run(command, "pg_dump").await?;
    file.finish().await
}

/// A table, and for a partitioned one its partitions: `pg_dump` does not take them along.
async fn parts(connection: &mut Connection, table: &Table) -> Result<Vec<String>> {
    if table.kind != "p" {
        return Ok(vec![table.sql.clone()]);
    }
    let sql = format!(
        "SELECT json_agg(format('%I.%I', n.nspname, c.relname) ORDER BY t.level, c.oid) \
         FROM pg_partition_tree({}) t JOIN pg_class c ON c.oid = t.relid \
         JOIN pg_namespace n ON n.oid = c.relnamespace",
        table.oid
    );
    told(connection, &sql).await?.map_or(Ok(Vec::new()), |text| read(&text))
}

/// Rows as SQL: one transaction that loads them parents first. Rows that are there only because others
/// refer to them are left alone where the database has them already.
pub(super) async fn rows_as_sql(
    connection: &mut Connection,
    wanted: &[Wanted],
    title: &str,
    file: &NewFile,
    job: &JobContext,
) -> Result<()> {
    let encoding = encoding_of(connection).await?;
    agree_on_text(connection, &encoding, false).await?;
    let tables: Vec<_> = wanted.iter().map(|w| w.table.clone()).collect();
    let order = order(&tables, &foreign_keys(connection).await?)?;
    let failed = || EngineError::file("write", &file.part);
    let part = tokio::fs::File::create_new(&file.part).await.map_err(failed())?;
    let mut out = BufWriter::new(part);
    // A comment ends with its line.
    let title = title.replace(['\n', '\r'], " ");
    let head = format!(
        "-- {title}\n-- One transaction: all of it, or nothing.\n\\set ON_ERROR_STOP on\n\
         SET client_encoding = {};\nSET standard_conforming_strings = on;\nSET datestyle = 'ISO, YMD';\n\
         SET intervalstyle = 'postgres';\nBEGIN;\nSET CONSTRAINTS ALL DEFERRED;\n",
        literal(&encoding)
    );
    out.write_all(head.as_bytes()).await.map_err(failed())?;
    let mut written = 0;
    let mut tail = String::new();
    for place in &order.tables {
        let (wanted, later) = (&wanted[*place], &order.later[*place]);
        let table = &wanted.table;
        let stored: Vec<_> = table.stored().collect();
        let list = |each: &dyn Fn(&super::catalog::Column) -> String| {
            let parts: Vec<_> = stored.iter().map(|c| each(c)).collect();
            parts.join(", ")
        };
        let columns = list(&|c| c.sql.clone());
        let staged = wanted.followed || !later.is_empty();
        let side = format!("holdfast_{place}");
        let copy_columns =
            if staged { format!("{columns}, _holdfast_parent") } else { columns.clone() };
        let target = if staged { format!("pg_temp.{side}") } else { table.sql.clone() };
        if staged {
            let make = format!(
                "\nCREATE TEMPORARY TABLE {side} ON COMMIT DROP AS SELECT {columns}, false AS _holdfast_parent \
                 FROM {} WITH NO DATA;",
                table.from()
            );
            out.write_all(make.as_bytes()).await.map_err(failed())?;
        }
        let begin = format!("\nCOPY {target} ({copy_columns}) FROM stdin;\n");
        out.write_all(begin.as_bytes()).await.map_err(failed())?;
        let parent = if staged { format!(", {}", wanted.parent) } else { String::new() };
        let sql = format!(
            "COPY (SELECT {}{parent} FROM {}) TO STDOUT",
            list(&|c| format!("t.{}", c.sql)),
            wanted.rows
        );
        let mut rows = connection.copy_out(&sql).await?;
        while let Some(bytes) = rows.next().await? {
            out.write_all(&bytes).await.map_err(failed())?;
            written += bytes.len() as u64;
            job.reporter.done(written);
        }
        out.write_all(b"\\.\n").await.map_err(failed())?;
        if staged {
            let values = list(&|c| {
                if later.contains(&c.name) { "NULL".to_owned() } else { c.sql.clone() }
            });
            let insert = format!(
                "INSERT INTO {0} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM pg_temp.{side} \
                 WHERE NOT _holdfast_parent;\n\
                 INSERT INTO {0} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM pg_temp.{side} \
                 WHERE _holdfast_parent ON CONFLICT DO NOTHING;\n",
                table.sql
            );
            out.write_all(insert.as_bytes()).await.map_err(failed())?;
        }
        if !later.is_empty() {
            if table.key.is_empty() {
                return Err(EngineError::refused(
                    "no_primary_key",
                    format!("{} has no key, and its foreign keys go in a circle", table.sql),
                    "Rescue it with --into rows.dump, and load it with its triggers disabled.",
                ));
            }
            let set: Vec<_> = later.iter().map(|c| format!("{0} = r.{0}", identifier(c))).collect();
            tail.push_str(&format!(
                "UPDATE {} AS l SET {} FROM pg_temp.{side} AS r WHERE {} AND NOT r._holdfast_parent;\n",
                table.from(),
                set.join(", "),
                table.same_key("l", "r")
            ));
        }
    }
    for wanted in wanted {
        for sequence in sequences_of(connection, wanted.table.oid).await? {
            tail.push_str(&sequence.set_past(&wanted.table.from()));
            tail.push_str(";\n");
        }
    }
    out.write_all(format!("\n{tail}COMMIT;\n").as_bytes()).await.map_err(failed())?;
    out.flush().await.map_err(failed())?;
    drop(out);
    file.finish().await
}
