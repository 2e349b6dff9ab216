//! Looking into a restored copy: one query, read-only, with limits.

use std::time::Duration;

use holdfast_postgres::Lsn;
use holdfast_wire::{Connection, WireError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::record::{RestoreRecord, require_running};
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::jobs::JobId;
use crate::server::private::ServerLocation;

/// Rows given unless another number is asked for.
const ROWS: usize = 1000;
/// Rows given at most.
const MOST_ROWS: usize = 10_000;
/// Bytes of cells after which no further rows are fetched.
const MOST_BYTES: u64 = 4 << 20;
/// Rows fetched at a time.
const BATCH: usize = 100;
/// How long the server may work on one batch, in milliseconds.
const STATEMENT_MILLISECONDS: u64 = 30_000;
/// How long the whole look may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// What to look at.
#[derive(Debug, Clone)]
pub struct InspectRequest {
    /// The database; "postgres" when none is named.
    pub database: Option<String>,
    /// One query: SELECT, VALUES, TABLE or WITH.
    pub sql: String,
    /// How many rows at most; 1000 when not said, never more than 10 000.
    pub rows: Option<u32>,
}

/// What was seen.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Inspection {
    /// The database that was asked.
    pub database: String,
    /// Up to where the copy has been replayed; none once it takes writes.
    #[ts(type = "string | null")]
    pub replayed_to: Option<Lsn>,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows, in PostgreSQL's text form.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether there are more rows than are given.
    pub truncated: bool,
    /// How long it took.
    pub seconds: f64,
}

impl Engine {
    /// Runs one query on a restored copy that runs: in a read-only transaction, as a role that may
    /// read everything and do nothing else, with limits of time, rows and bytes.
    ///
    /// # Errors
    /// Refused when the server does not run; what PostgreSQL says of the query; cancelled.
    pub async fn inspect_restore(
        &self,
        job: JobId,
        request: &InspectRequest,
        cancel: CancellationToken,
    ) -> Result<Inspection> {
        let location = RestoreRecord::read(&self.home().jobs(), job)?.location;
        require_running(&location)?;
        // The connection is closed in every case; the server notices within a second.
        tokio::select! {
            seen = look(&location, request) => seen,
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            () = tokio::time::sleep(PATIENCE) => Err(EngineError::refused(
                "query_too_long",
                format!("the query took longer than {} seconds", PATIENCE.as_secs()),
                "Ask for less, or connect to the copy with the restore's dsn.",
            )),
        }
    }
}

async fn look(location: &ServerLocation, request: &InspectRequest) -> Result<Inspection> {
    let began = std::time::Instant::now();
    let database = request.database.clone().unwrap_or_else(|| "postgres".to_owned());
    let rows = request.rows.map_or(ROWS, |n| n as usize).min(MOST_ROWS);
    let mut seen = match open(location, &database, &request.sql, true).await {
        Ok(mut connection) => read(&mut connection, rows).await,
        Err(error) => Err(error),
    };
    if seen.as_ref().is_err_and(is_row_security) {
        // The reader is subject to row level security: all rows are seen by the superuser only.
        seen = match open(location, &database, &request.sql, false).await {
            Ok(mut connection) => read(&mut connection, rows).await,
            Err(error) => Err(error),
        };
    }
    let (replayed_to, columns, rows, truncated) = seen?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Inspection { database, replayed_to, columns, rows, truncated, seconds })
}

/// 42501 with the sentence of `check_enable_rls`: `row_security` is off, so that no row is left out unsaid.
fn is_row_security(error: &EngineError) -> bool {
    matches!(error, EngineError::Wire(WireError::Server(e))
        if e.sqlstate == "42501" && e.message.contains("row-level security"))
}

/// Opens a cursor over the query. A cursor takes queries only, and the extended protocol one statement only.
async fn open(
    location: &ServerLocation,
    database: &str,
    sql: &str,
    as_reader: bool,
) -> Result<Connection> {
    let mut connection = location.connect(database).await?;
    // A server notices that nobody waits any more; where the platform cannot, the timeout must do.
    let _ = connection.query("SET client_connection_check_interval = '1s'").await;
    let role = if as_reader { "; SET LOCAL ROLE pg_read_all_data" } else { "" };
    connection
        .query(&format!(
            "SET statement_timeout = {STATEMENT_MILLISECONDS}; SET lock_timeout = {STATEMENT_MILLISECONDS}"
        ))
        .await?;
    connection
        .query(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL row_security = off{role}"
        ))
        .await?;
    connection.execute_one(&format!("DECLARE inspection NO SCROLL CURSOR FOR {sql}")).await?;
    Ok(connection)
}

type Seen = (Option<Lsn>, Vec<String>, Vec<Vec<Option<String>>>, bool);

async fn read(connection: &mut Connection, limit: usize) -> Result<Seen> {
    let mut columns = Vec::new();
    let mut rows: Vec<Vec<Option<String>>> = Vec::new();
    let mut bytes = 0_u64;
    let truncated = loop {
        // One more than is given shows whether there are more.
        let wanted = BATCH.min(limit + 1 - rows.len().min(limit));
        let sets = connection.query(&format!("FETCH FORWARD {wanted} FROM inspection")).await?;
        let Some(set) = sets.into_iter().next() else { break false };
        columns = set.columns;
        let came = set.rows.len();
        bytes += set
            .rows
            .iter()
            .flatten()
            .map(|c| c.as_ref().map_or(0, String::len) as u64)
            .sum::<u64>();
        rows.extend(set.rows);
        if rows.len() > limit {
            rows.truncate(limit);
            break true;
        }
        if came < wanted {
            break false;
        }
        if bytes > MOST_BYTES {
            break true;
        }
    };
    let at = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() END";
    let replayed_to = connection.query_value(at).await?.and_then(|lsn| lsn.parse().ok());
    let _ = connection.query("ROLLBACK").await;
    Ok((replayed_to, columns, rows, truncated))
}
