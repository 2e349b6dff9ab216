//! The simple query protocol: text in, result sets out.

use bytes::Bytes;

use crate::connection::Connection;
use crate::error::{ServerError, WireError};
use crate::message::{self, tag};

/// Largest answer to one query that is kept, in bytes of its messages.
pub const MAX_RESULT_BYTES: usize = 64 * 1024 * 1024;

/// What a cell costs beside its bytes: a vector's slot.
const CELL_OVERHEAD: usize = size_of::<Option<Bytes>>();

/// One statement's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultSet {
    /// The names of the columns; empty for a statement that returns no rows.
    pub columns: Vec<String>,
    /// The rows in text form; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command tag (`SELECT 1`).
    pub tag: String,
}

/// As [`ResultSet`], with the cells as they came: `TIMELINE_HISTORY` sends bytes that need not be text.
#[derive(Debug, Default)]
pub(crate) struct RawResultSet {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Option<Bytes>>>,
    pub(crate) tag: String,
}

impl Connection {
    /// Runs one or more statements and returns all their results.
    ///
    /// # Errors
    /// [`WireError::Server`] with the first error, after which the connection is usable again (unless
    /// the server closed it); [`WireError::ResultTooLarge`] above [`MAX_RESULT_BYTES`], after which it
    /// is not; [`WireError::Timeout`] when the server stays silent too long.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<ResultSet>, WireError> {
        let sets = self.raw_query(sql).await?;
        Ok(sets
            .into_iter()
            .map(|set| ResultSet {
                columns: set.columns,
                rows: set
                    .rows
                    .into_iter()
                    .map(|row| row.into_iter().map(|cell| cell.as_deref().map(text)).collect())
                    .collect(),
                tag: set.tag,
            })
            .collect())
    }

    /// The first row of the last statement that returns rows; `None` when there is none.
    pub async fn query_row(&mut self, sql: &str) -> Result<Option<Vec<Option<String>>>, WireError> {
        let sets = self.query(sql).await?;
        let last = sets.into_iter().rev().find(|set| !set.columns.is_empty());
        Ok(last.and_then(|set| set.rows.into_iter().next()))
    }

    /// The first column of the first row; `None` when there is no row or it is NULL.
    pub async fn query_value(&mut self, sql: &str) -> Result<Option<String>, WireError> {
        Ok(self.query_row(sql).await?.and_then(|row| row.into_iter().next()).flatten())
    }

    /// The rows of a query of PostgreSQL's own catalogs, run with `pg_catalog` alone in sight.
    ///
    /// Whoever may create something in a schema of the search path could put an operator there that fits
    /// better than PostgreSQL's own and runs with the rights of whoever asks (CVE-2018-1058). The setting ends
    /// with the query, as the transaction that several statements of one message are (postgres.c,
    /// `exec_simple_query`): a session that a pooler lends does not keep it.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub async fn catalog_rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, WireError> {
        let sets = self.query(&format!("SET LOCAL search_path = pg_catalog; {sql}")).await?;
        Ok(sets.into_iter().next_back().map(|set| set.rows).unwrap_or_default())
    }

    /// The first column of the first of these rows; `None` when there is no row or it is NULL.
    ///
    /// # Errors
    /// As [`Connection::query`].
    pub async fn catalog_value(&mut self, sql: &str) -> Result<Option<String>, WireError> {
        let rows = self.catalog_rows(sql).await?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// Runs exactly one statement, without its rows: the extended protocol's `Parse` takes no second one
    /// behind a semicolon (postgres.c, `exec_parse_message`).
    ///
    /// # Errors
    /// As [`Connection::query`]; [`WireError::Server`] with 42601 for more than one statement.
    pub async fn execute_one(&mut self, sql: &str) -> Result<(), WireError> {
        self.send_statement(sql, "sending a statement").await?;
        self.collect("waiting for a statement's end").await.map(drop)
    }

    pub(crate) async fn raw_query(&mut self, sql: &str) -> Result<Vec<RawResultSet>, WireError> {
        self.send_command(sql, "sending a query").await?;
        self.collect("waiting for a query's answer").await
    }

    /// Collects result sets up to `ReadyForQuery`.
    pub(crate) async fn collect(
        &mut self,
        during: &'static str,
    ) -> Result<Vec<RawResultSet>, WireError> {
        let mut sets = Vec::new();
        let mut current: Option<RawResultSet> = None;
        let mut failure: Option<ServerError> = None;
        let mut bytes = 0_usize;
        loop {
            let frame = match self.receive(self.silence_limit(), during).await {
                Ok(frame) => frame,
                // After FATAL the server hangs up: its reason is worth more than the hanging up.
                Err(error) => return Err(failure.map_or(error, WireError::from)),
            };
            match frame.tag {
                tag::ROW_DESCRIPTION => {
                    let columns = message::column_names(&frame.body)?;
                    current = Some(RawResultSet { columns, ..RawResultSet::default() });
                }
                tag::DATA_ROW => {
                    let row = message::row_cells(&frame.body)?;
                    bytes = bytes
                        .saturating_add(frame.body.len())
                        .saturating_add(row.len().saturating_mul(CELL_OVERHEAD));
                    if bytes > MAX_RESULT_BYTES {
                        return Err(WireError::ResultTooLarge { limit: MAX_RESULT_BYTES });
                    }
                    current
                        .as_mut()
                        .ok_or_else(|| WireError::protocol("a row came before its description"))?
                        .rows
                        .push(row);
                }
                tag::COMMAND_COMPLETE => {
                    let mut set = current.take().unwrap_or_default();
                    set.tag = message::command_tag(&frame.body)?;
                    sets.push(set);
                }
                tag::EMPTY_QUERY => sets.push(RawResultSet::default()),
                tag::PARSE_COMPLETE | tag::BIND_COMPLETE => {}
                tag::ERROR => {
                    let error = ServerError::parse(&frame.body)?;
                    failure.get_or_insert(error);
                }
                tag::NOTICE => {
                    let notice = ServerError::parse(&frame.body)?;
                    tracing::debug!(severity = %notice.severity, message = %notice.message, "notice");
                }
                tag::READY => {
                    self.busy = false;
                    return failure.map_or(Ok(sets), |error| Err(error.into()));
                }
                other => {
                    return Err(WireError::protocol(format!(
                        "{} came in answer to a query",
                        message::name_of(other)
                    )));
                }
            }
        }
    }
}

pub(crate) fn text(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).into_owned()
}
