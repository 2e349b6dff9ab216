//! The catalog: SQLite in the home directory, a cache of the repositories plus this machine's jobs.
//!
//! Every statement is a constant listed in its module's `STATEMENTS`; a test prepares each of them
//! against the migrated schema.

pub(crate) mod clusters;
pub(crate) mod jobs;
pub(crate) mod objects;
pub(crate) mod repositories;

use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use crate::error::{EngineError, Result};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// An open catalog. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    pool: SqlitePool,
}

impl Catalog {
    /// Opens the catalog, creating or migrating it forward.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await
            .map_err(EngineError::catalog("be opened"))?;
        MIGRATIONS.run(&pool).await.map_err(|e| EngineError::catalog("be migrated")(e.into()))?;
        Ok(Self { pool })
    }

    /// The connections, for the modules of this folder.
    fn pool(&self) -> &SqlitePool {
        &self.pool
    }
}

/// Times are stored as RFC 3339 with microseconds, so that text order is time order.
fn to_text(time: chrono::DateTime<chrono::Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn from_text(text: &str) -> Result<chrono::DateTime<chrono::Utc>> {
    chrono::DateTime::parse_from_rfc3339(text).map(|t| t.to_utc()).map_err(|e| {
        EngineError::Fault(format!("the catalog holds {text:?} where a time belongs: {e}"))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn every_statement_prepares_against_the_schema() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog.db")).await.unwrap();
        let all =
            [clusters::STATEMENTS, jobs::STATEMENTS, objects::STATEMENTS, repositories::STATEMENTS];
        for statement in all.into_iter().flatten() {
            use sqlx::{Executor as _, SqlSafeStr as _};
            catalog
                .pool()
                .prepare((*statement).into_sql_str())
                .await
                .unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
    }

    #[tokio::test]
    async fn a_catalog_opens_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.db");
        Catalog::open(&path).await.unwrap();
        Catalog::open(&path).await.unwrap();
    }
}
