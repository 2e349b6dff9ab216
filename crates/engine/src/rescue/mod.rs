//! Table rescue: single tables, or rows of one, out of a point in time.
//!
//! The point is restored privately, proven, and thrown away afterwards. What is wanted goes to a file,
//! or is merged into a live database in one transaction: rows that are missing there come back, rows
//! that were changed since are shown and stay as they are unless told otherwise.

mod catalog;
mod columns;
mod file;
mod follow;
mod merge;
mod order;

use std::path::{Path, PathBuf};

use holdfast_wire::{Connection, SessionKind};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::cluster::parse_dsn;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind, JobState};
use crate::restore::{AtTarget, Prepared, Purpose, ReachedPoint, RestoreRequest, can_resume};
use crate::server::private::{ServerLocation, output_of};
use crate::{Engine, PhaseTime, secrets};
use catalog::Table;

pub use merge::{Conflict, MergedTable};

/// Where rescued rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RescueTo {
    /// A new file: SQL, or `pg_dump`'s own format when its name ends with `.dump`.
    File(PathBuf),
    /// A live database, by a connection string without a password.
    Database(String),
}

impl std::str::FromStr for RescueTo {
    type Err = EngineError;

    /// A connection string has an `=` or is a `postgresql://` URI; anything else is a file.
    fn from_str(text: &str) -> Result<Self> {
        let uri = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if uri || text.contains('=') && !Path::new(text).exists() {
            return Ok(Self::Database(text.to_owned()));
        }
        let path = Path::new(text);
        std::path::absolute(path).map(Self::File).map_err(EngineError::file("resolve", path))
    }
}

/// What becomes of rows of the live table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum MergeMode {
    /// Nothing is written: what would be is told.
    Review,
    /// Missing rows come back; changed ones stay as they are now.
    #[default]
    Missing,
    /// Missing rows come back, changed ones become what they were at the point.
    Overwrite,
}

/// What to rescue.
#[derive(Debug, Clone)]
pub struct RescueRequest {
    /// The point; its destination is not looked at.
    pub point: RestoreRequest,
    /// Where the private copy goes, which is removed again; a place of its own when not said.
    pub copy: Option<PathBuf>,
    /// The database the tables are in; the one of the cluster's connection string when not said.
    pub database: Option<String>,
    /// The tables, as SQL names them.
    pub tables: Vec<String>,
    /// Only rows for which this SQL condition holds; of one table.
    pub condition: Option<String>,
    /// Also all rows that refer to them, through foreign keys, and what those refer to.
    pub follow: bool,
    /// Where to.
    pub to: RescueTo,
    /// What becomes of rows that differ.
    pub mode: MergeMode,
    /// Keep the triggers of users from running.
    pub without_triggers: bool,
}

/// What was rescued.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RescueResult {
    /// The job.
    pub job: String,
    /// Where the private copy really stopped.
    pub reached: ReachedPoint,
    /// Whether every check of the copy passed.
    pub verified: bool,
    /// The database.
    pub database: String,
    /// The file, where one was written.
    pub file: Option<String>,
    /// Its size.
    #[ts(type = "number | null")]
    pub bytes: Option<u64>,
    /// What became of rows that differ, where they were merged.
    pub mode: Option<MergeMode>,
    /// Table by table.
    pub tables: Vec<RescuedTable>,
    /// How long each phase took.
    pub phases: Vec<PhaseTime>,
}

/// One rescued table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct RescuedTable {
    /// `schema.name`.
    pub table: String,
    /// Rows at the point that were wanted.
    #[ts(type = "number")]
    pub rows: u64,
    /// Rows at the point that wanted rows refer to.
    #[ts(type = "number")]
    pub referred_to: u64,
    /// What the merge into a live database did.
    pub merged: Option<MergedTable>,
}

/// Rows of one table of the private copy.
struct Wanted {
    table: Table,
    /// What follows `FROM`; the row is `t`.
    rows: String,
    /// Whether a row is only there because others refer to it, as an expression.
    parent: String,
    /// Whether rows were followed through foreign keys.
    followed: bool,
}

impl RescueRequest {
    fn check(&self) -> Result<()> {
        if self.tables.is_empty() {
            return Err(EngineError::usage("no table was named", "Use --table, once for each."));
        }
        if (self.condition.is_some() || self.follow) && self.tables.len() > 1 {
            return Err(EngineError::usage(
                "a condition is of one table, and rows are followed from one",
                "Rescue the tables one after the other, each with its own --where.",
            ));
        }
        match &self.to {
            RescueTo::File(path) if path.exists() => Err(EngineError::refused(
                "file_exists",
                format!("{} exists already", path.display()),
                "Choose another name: a file is never overwritten.",
            )),
            RescueTo::File(path) if !path.parent().is_some_and(Path::is_dir) => {
                Err(EngineError::usage(
                    format!("{} is in no directory that exists", path.display()),
                    "Choose a file in a directory that exists.",
                ))
            }
            RescueTo::File(_) if self.mode != MergeMode::Missing || self.without_triggers => {
                Err(EngineError::usage(
                    "a file is neither reviewed nor overwritten, and runs no triggers",
                    "Give a connection string to merge into a live database.",
                ))
            }
            RescueTo::File(_) => Ok(()),
            RescueTo::Database(dsn) => parse_dsn(dsn).map(drop),
        }
    }

    /// Whether what is wanted is noted in a table of the copy, which must take writes for that.
    fn notes_rows(&self) -> bool {
        let dump = matches!(&self.to, RescueTo::File(path) if file::is_dump(path));
        self.follow || self.condition.is_some() && dump
    }

    fn title(&self) -> String {
        let exclusive = if self.point.exclusive { " (exclusive)" } else { "" };
        format!(
            "Rescue {} of {} at {}{exclusive}",
            self.tables.join(", "),
            self.point.cluster,
            self.point.target
        )
    }
}

impl Engine {
    /// Takes tables out of a point in time.
    ///
    /// # Errors
    /// As [`Engine::restore`]; not found when a table is not there at that point; refused when the
    /// file exists or a live table cannot be merged into. A merge that fails changes nothing.
    pub async fn rescue_tables(
        &self,
        request: RescueRequest,
        cancel: CancellationToken,
    ) -> Result<RescueResult> {
        let prepared = tokio::select! {
            prepared = self.prepare_rescue(&request) => prepared?,
            () = cancel.cancelled() => return Err(EngineError::Cancelled),
        };
        let engine = self.clone();
        let (name, title) = (request.point.cluster.clone(), request.title());
        self.run_job(JobKind::Rescue, Some(&name), title, cancel, |job| async move {
            engine.rescue_in(job, prepared, request).await
        })
        .await
    }

    /// The same in the background. What can be refused is refused before the job exists.
    ///
    /// # Errors
    /// As [`Engine::rescue_tables`].
    pub async fn start_rescue(&self, request: RescueRequest) -> Result<JobId> {
        let prepared = self.prepare_rescue(&request).await?;
        let engine = self.clone();
        let (name, title) = (request.point.cluster.clone(), request.title());
        self.start_job(JobKind::Rescue, Some(&name), title, move |job| async move {
            engine.rescue_in(job, prepared, request).await
        })
        .await
    }

    /// Plans the private copy. Where no place was said it goes to the home directory, or to the
    /// system's temporary one when there is too little space.
    async fn prepare_rescue(&self, request: &RescueRequest) -> Result<Prepared> {
        request.check()?;
        if let RescueTo::Database(dsn) = &request.to {
            // A live database that cannot be reached is told before hours of restoring.
            self.connect_live(dsn, &request.point.cluster).await?.close().await;
        }
        self.discard_interrupted_rescues().await?;
        let name = format!("rescue-{}", uuid::Uuid::now_v7());
        let places = match &request.copy {
            Some(place) => vec![place.clone()],
            None => vec![
                self.home().root().join("restored").join(&name),
                std::env::temp_dir().join(format!("holdfast-{name}")),
            ],
        };
        let mut refused = None;
        for destination in places {
            let point = RestoreRequest { destination, ..request.point.clone() };
            match self.prepare(point, None, Purpose::Run).await {
                Err(error @ EngineError::Refused { code: "too_little_disk", .. }) => {
                    refused.get_or_insert(error);
                }
                other => return other,
            }
        }
        Err(refused.unwrap_or(EngineError::Fault("no place for a private copy".to_owned())))
    }

    /// Removes what rescues have left whose process died: nobody goes on with them.
    async fn discard_interrupted_rescues(&self) -> Result<()> {
        for job in self.jobs().await? {
            let interrupted = job.kind == JobKind::Rescue && job.state == JobState::Interrupted;
            if interrupted && can_resume(&self.home().jobs().join(job.id.to_string())) {
                match self.discard_restore(job.id).await {
                    // Somebody else does the same at this moment.
                    Ok(()) | Err(EngineError::Refused { code: "job_running", .. }) => {}
                    Err(error) => {
                        tracing::warn!(job = %job.id, %error, "what an interrupted rescue left could not be removed");
                    }
                }
            }
        }
        Ok(())
    }

    async fn connect_live(&self, dsn: &str, cluster: &str) -> Result<Connection> {
        let parsed = parse_dsn(dsn)?;
        // A password in the keychain is of the cluster's own connection string.
        let own = self.cluster(cluster).await.ok().filter(|c| c.dsn == dsn).map(|c| c.id);
        let password = secrets::password_for(own, &parsed).await?;
        Ok(Connection::connect(&parsed, password.as_ref(), SessionKind::Sql).await?)
    }

    async fn rescue_in(
        &self,
        job: JobContext,
        prepared: Prepared,
        request: RescueRequest,
    ) -> Result<RescueResult> {
        let database = match &request.database {
            Some(database) => database.clone(),
            None => parse_dsn(&prepared.cluster.dsn)?.database,
        };
        let file = match &request.to {
            RescueTo::File(path) => Some(path.clone()),
            RescueTo::Database(_) => None,
        };
        let at_target = if request.notes_rows() { AtTarget::Promote } else { AtTarget::Pause };
        let point = prepared.request.clone();
        let mut copy = self.restore_privately(job.clone(), prepared, point, at_target).await?;
        let restored = copy.result.clone();
        let new_file = file.as_deref().map(|path| file::NewFile::new(path, job.id));
        let noted = new_file.as_ref().map_or(Ok(()), |new| copy.note_file(new.part.clone()));
        let outcome = match noted {
            Ok(()) => {
                self.rescue_from(&job, copy.location(), &database, &request, new_file.as_ref())
                    .await
            }
            Err(error) => Err(error),
        };
        // The copy goes, whatever came of it. What was asked for may be done all the same.
        if let Err(error) = copy.remove().await {
            job.reporter.warning(format!(
                "the private copy in {} could not be removed: {error}; `holdfast restore discard {}` tries again",
                restored.data_directory, job.id
            ));
        }
        let tables = outcome?;
        let bytes = file.as_ref().and_then(|f| std::fs::metadata(f).ok()).map(|facts| facts.len());
        Ok(RescueResult {
            job: restored.job,
            reached: restored.reached,
            verified: restored.verified,
            database,
            mode: file.is_none().then_some(request.mode),
            file: file.map(|f| f.display().to_string()),
            bytes,
            tables,
            phases: job.reporter.phases(),
        })
    }

    async fn rescue_from(
        &self,
        job: &JobContext,
        server: &ServerLocation,
        database: &str,
        request: &RescueRequest,
        new_file: Option<&file::NewFile>,
    ) -> Result<Vec<RescuedTable>> {
        let cancelled = || job.cancel.cancelled();
        let found = collect(server, database, request, job);
        let (mut connection, wanted, mut rescued) = tokio::select! {
            found = found => found?,
            () = cancelled() => return Err(EngineError::Cancelled),
        };
        match (&request.to, new_file) {
            (RescueTo::File(_), None) => {
                return Err(EngineError::Fault("a file has no name".to_owned()));
            }
            (RescueTo::File(_), Some(new)) => {
                job.reporter.phase("writing the file", Some("bytes"), None);
                let written = async {
                    let copy = &mut connection;
                    if request.notes_rows() && new.is_dump() {
                        file::followed_rows_as_dump(server, database, copy, &wanted, new).await
                    } else if request.condition.is_some() || request.follow {
                        let title = request.title();
                        file::rows_as_sql(copy, &wanted, &title, new, job).await
                    } else {
                        file::whole_tables(server, database, copy, &wanted, new).await
                    }
                };
                tokio::select! {
                    written = written => written?,
                    () = cancelled() => return Err(EngineError::Cancelled),
                }
            }
            (RescueTo::Database(dsn), _) => {
                let live = self.connect_live(dsn, &request.point.cluster).await?;
                let (mode, quiet) = (request.mode, request.without_triggers);
                let merged = merge::merge(&mut connection, live, &wanted, mode, quiet, job).await?;
                for (table, merged) in rescued.iter_mut().zip(merged) {
                    table.merged = Some(merged);
                }
            }
        }
        connection.close().await;
        Ok(rescued)
    }
}

/// Finds what is wanted in the private copy, and counts it.
async fn collect(
    server: &ServerLocation,
    database: &str,
    request: &RescueRequest,
    job: &JobContext,
) -> Result<(Connection, Vec<Wanted>, Vec<RescuedTable>)> {
    let mut connection = server.connect(database).await.map_err(|error| match &error {
        EngineError::Wire(wire) if wire.sqlstate() == Some("3D000") => {
            EngineError::NotFound { what: "database", name: database.to_owned() }
        }
        _ => error,
    })?;
    connection.set_silence_limit(None);
    let mut tables = Vec::new();
    for name in &request.tables {
        let table = catalog::table(&mut connection, name).await?.ok_or_else(|| {
            EngineError::NotFound { what: "table at that point", name: name.clone() }
        })?;
        if table.kind == "m" {
            return Err(EngineError::refused(
                "materialized_view",
                format!(
                    "{} is a materialized view: its rows are worked out from tables",
                    table.sql
                ),
                "Rescue the tables it reads, and then REFRESH MATERIALIZED VIEW.",
            ));
        }
        if table.unlogged {
            return Err(EngineError::refused(
                "unlogged_table",
                format!("{} is unlogged: its rows are in no WAL and in no backup", table.sql),
                "There is nothing to rescue. What must not be lost belongs into a logged table.",
            ));
        }
        tables.push(table);
    }
    if let (Some(condition), [table]) = (&request.condition, tables.as_slice()) {
        // Alone, where a second statement cannot hide behind it: from here on it is a condition.
        let alone = format!("SELECT FROM {} WHERE ({condition}\n) LIMIT 0", table.from());
        connection.execute_one(&alone).await.map_err(|e| condition_error(e.into()))?;
    }
    let mut wanted = Vec::new();
    if request.notes_rows() {
        job.reporter.phase("following rows", Some("rows"), None);
        let root = tables.first().ok_or_else(|| EngineError::Fault("no table".to_owned()))?;
        let condition = request.condition.as_deref();
        let found = follow::follow(&mut connection, root, condition, request.follow, job)
            .await
            .map_err(condition_error)?;
        for table in found {
            wanted.push(Wanted {
                rows: follow::rows_of(&table),
                parent: "k.parent".to_owned(),
                followed: true,
                table,
            });
        }
    } else {
        for table in tables {
            let condition =
                request.condition.as_ref().map_or(String::new(), |sql| format!(" WHERE ({sql}\n)"));
            wanted.push(Wanted {
                rows: format!("(SELECT * FROM {}{condition}) AS t", table.from()),
                parent: "false".to_owned(),
                followed: false,
                table,
            });
        }
    }
    let mut rescued = Vec::new();
    for wanted in &wanted {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE NOT {0}), count(*) FILTER (WHERE {0}) FROM {1}",
            wanted.parent, wanted.rows
        );
        let row = connection.query_row(&sql).await.map_err(|e| condition_error(e.into()))?;
        let mut counts = row
            .unwrap_or_default()
            .into_iter()
            .map(|n| n.and_then(|n| n.parse().ok()).unwrap_or(0));
        rescued.push(RescuedTable {
            table: wanted.table.sql.clone(),
            rows: counts.next().unwrap_or(0),
            referred_to: counts.next().unwrap_or(0),
            merged: None,
        });
    }
    Ok((connection, wanted, rescued))
}

/// A condition that the server does not understand is a mistake of the one who wrote it.
fn condition_error(error: EngineError) -> EngineError {
    match &error {
        EngineError::Wire(holdfast_wire::WireError::Server(server))
            if server.sqlstate.starts_with("42") || server.sqlstate.starts_with("22") =>
        {
            EngineError::usage(
                format!("the condition cannot be used: {}", server.message),
                "--where takes what SQL takes behind WHERE, as the table was at that point.",
            )
        }
        _ => error,
    }
}

/// Runs a program to its end; it is killed when the future is dropped.
async fn run(mut command: tokio::process::Command, name: &str) -> Result<()> {
    let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await;
    output_of(output, name).map(drop)
}

fn program(server: &ServerLocation, name: &str) -> Result<PathBuf> {
    server.binaries.optional_program(name).ok_or_else(|| {
        EngineError::refused(
            "client_missing",
            format!(
                "{name} of PostgreSQL {} is not installed beside the server's programs",
                server.binaries.major
            ),
            format!("Install the client programs of PostgreSQL {}.", server.binaries.major),
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_connection_string_is_told_from_a_file() {
        for dsn in ["host=/tmp dbname=app", "postgresql://db/app", "postgres://db"] {
            assert_eq!(dsn.parse::<RescueTo>().unwrap(), RescueTo::Database(dsn.to_owned()));
        }
        assert!(matches!("/tmp/rows.sql".parse().unwrap(), RescueTo::File(_)));
        assert!(matches!("rows.dump".parse().unwrap(), RescueTo::File(_)));
    }
}
