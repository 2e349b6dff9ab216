//! Metadata and documents of repositories that never change once written, read from the store once.

use sqlx::Row as _;
use uuid::Uuid;

use super::Catalog;
use crate::error::{EngineError, Result};

const PUT_WAL: &str =
    "INSERT OR REPLACE INTO wal_objects (repository_id, path, metadata) VALUES (?, ?, ?)";
const WAL_UNDER: &str = "SELECT path, metadata FROM wal_objects WHERE repository_id = ? AND path >= ? AND path < ? ORDER BY path";
const PUT_DOCUMENT: &str =
    "INSERT OR REPLACE INTO documents (repository_id, path, body) VALUES (?, ?, ?)";
const DOCUMENT: &str = "SELECT body FROM documents WHERE repository_id = ? AND path = ?";
const WAL: &str = "SELECT metadata FROM wal_objects WHERE repository_id = ? AND path = ?";
const PUT_OUTLINE: &str =
    "INSERT OR REPLACE INTO outlines (repository_id, path, body) VALUES (?, ?, ?)";
const OUTLINES_UNDER: &str =
    "SELECT max(path), group_concat(path || ' ' || body, char(10)) FROM (SELECT path, body
     FROM outlines WHERE repository_id = ? AND path > ? AND path < ? AND gone = 0 ORDER BY path LIMIT 4096)";
const OUTLINE_GONE: &str = "UPDATE outlines SET gone = 1 WHERE repository_id = ? AND path = ?";
const KNOWN: &str = "SELECT path FROM documents WHERE repository_id = ?
     UNION SELECT path FROM wal_objects WHERE repository_id = ?
     UNION SELECT path FROM outlines WHERE repository_id = ? ORDER BY path";
const FORGET_DOCUMENT: &str = "DELETE FROM documents WHERE repository_id = ? AND path = ?";
const FORGET_WAL: &str = "DELETE FROM wal_objects WHERE repository_id = ? AND path = ?";
const FORGET_OUTLINE: &str = "DELETE FROM outlines WHERE repository_id = ? AND path = ?";
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[
    PUT_WAL,
    WAL_UNDER,
    PUT_DOCUMENT,
    DOCUMENT,
    WAL,
    PUT_OUTLINE,
    OUTLINES_UNDER,
    OUTLINE_GONE,
    KNOWN,
    FORGET_DOCUMENT,
    FORGET_WAL,
    FORGET_OUTLINE,
];

impl Catalog {
    pub(crate) async fn put_wal_metadata(
        &self,
        repository: Uuid,
        path: &str,
        metadata: &str,
    ) -> Result<()> {
        sqlx::query(PUT_WAL)
            .bind(repository.to_string())
            .bind(path)
            .bind(metadata)
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("keep a WAL index"))?;
        Ok(())
    }

    /// Every cached entry whose path starts with `prefix` (which ends in '/').
    pub(crate) async fn wal_metadata_under(
        &self,
        repository: Uuid,
        prefix: &str,
    ) -> Result<Vec<(String, String)>> {
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let rows = sqlx::query(WAL_UNDER)
            .bind(repository.to_string())
            .bind(prefix)
            .bind(end)
            .fetch_all(self.pool())
            .await
            .map_err(EngineError::catalog("read the WAL index"))?;
        Ok(rows.iter().map(|r| (r.get(0), r.get(1))).collect())
    }

    /// The cached index of one piece of WAL.
    pub(crate) async fn wal_metadata(
        &self,
        repository: Uuid,
        path: &str,
    ) -> Result<Option<String>> {
        let row = sqlx::query(WAL)
            .bind(repository.to_string())
            .bind(path)
            .fetch_optional(self.pool())
            .await
            .map_err(EngineError::catalog("read the WAL index"))?;
        Ok(row.map(|r| r.get(0)))
    }

    /// Every outline whose path starts with `prefix` (which ends in '/'), of objects that were there when
    /// the store was last listed, as `read` understands it; what it does not understand is left out.
    ///
    /// They come thousands to a row, and are read on threads of their own: of a hundred thousand, handing
    /// over each by itself took longer than everything else a window waits for.
    pub(crate) async fn outlines_under<T: Send + 'static>(
        &self,
        repository: Uuid,
        prefix: &str,
        read: fn(&str) -> Option<T>,
    ) -> Result<Vec<(String, T)>> {
        let end = format!("{}0", prefix.trim_end_matches('/'));
        let mut after = prefix.to_owned();
        let mut pages = Vec::new();
        loop {
            let row = sqlx::query(OUTLINES_UNDER)
                .bind(repository.to_string())
                .bind(&after)
                .bind(&end)
                .fetch_one(self.pool())
                .await
                .map_err(EngineError::catalog("read outlines"))?;
            let (Some(last), Some(page)) =
                (row.get::<Option<String>, _>(0), row.get::<Option<String>, _>(1))
            else {
                break;
            };
            after = last;
            // Neither a path has a space in it nor JSON as it is kept a line's end.
            pages.push(tokio::task::spawn_blocking(move || {
                page.split('\n')
                    .filter_map(|line| line.split_once(' '))
                    .filter_map(|(path, body)| Some((path.to_owned(), read(body)?)))
                    .collect::<Vec<_>>()
            }));
        }
        let mut found = Vec::new();
        for page in pages {
            found.extend(
                page.await
                    .map_err(|e| EngineError::Fault(format!("outlines were not read: {e}")))?,
            );
        }
        Ok(found)
    }

    /// Keeps outlines, and marks those of objects that are gone, in one transaction.
    pub(crate) async fn keep_outlines(
        &self,
        repository: Uuid,
        new: &[(String, String)],
        gone: &[String],
    ) -> Result<()> {
        if new.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let failed = || EngineError::catalog("keep outlines");
        let id = repository.to_string();
        let mut transaction = self.pool().begin().await.map_err(failed())?;
        for (path, body) in new {
            sqlx::query(PUT_OUTLINE)
                .bind(&id)
                .bind(path)
                .bind(body)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        for path in gone {
            sqlx::query(OUTLINE_GONE)
                .bind(&id)
                .bind(path)
                .execute(&mut *transaction)
                .await
                .map_err(failed())?;
        }
        transaction.commit().await.map_err(failed())
    }

    pub(crate) async fn put_cached_document(
        &self,
        repository: Uuid,
        path: &str,
        body: &str,
    ) -> Result<()> {
        sqlx::query(PUT_DOCUMENT)
            .bind(repository.to_string())
            .bind(path)
            .bind(body)
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("keep a document"))?;
        Ok(())
    }

    pub(crate) async fn cached_document(
        &self,
        repository: Uuid,
        path: &str,
    ) -> Result<Option<String>> {
        let row = sqlx::query(DOCUMENT)
            .bind(repository.to_string())
            .bind(path)
            .fetch_optional(self.pool())
            .await
            .map_err(EngineError::catalog("read a document"))?;
        Ok(row.map(|r| r.get(0)))
    }

    /// The paths of everything that was ever read from a repository and never changes: what is not in the
    /// store any more was removed by somebody.
    pub(crate) async fn known_objects(&self, repository: Uuid) -> Result<Vec<String>> {
        let rows = sqlx::query(KNOWN)
            .bind(repository.to_string())
            .bind(repository.to_string())
            .bind(repository.to_string())
            .fetch_all(self.pool())
            .await
            .map_err(EngineError::catalog("list known objects"))?;
        Ok(rows.iter().map(|r| r.get(0)).collect())
    }

    /// Forgets what was removed on purpose, in one transaction.
    pub(crate) async fn forget_objects(&self, repository: Uuid, paths: &[String]) -> Result<()> {
        let failed = || EngineError::catalog("forget what was removed");
        let id = repository.to_string();
        let mut transaction = self.pool().begin().await.map_err(failed())?;
        for path in paths {
            for statement in [FORGET_DOCUMENT, FORGET_WAL, FORGET_OUTLINE] {
                sqlx::query(statement)
                    .bind(&id)
                    .bind(path)
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed())?;
            }
        }
        transaction.commit().await.map_err(failed())
    }
}
