//! Which repositories this machine knows, and how it unlocks them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use uuid::Uuid;

use super::{Catalog, from_text, to_text};
use crate::error::{EngineError, Result};

const INSERT: &str = "INSERT INTO repositories (id, url, unlock, attached_at) VALUES (?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET url = excluded.url, unlock = excluded.unlock";
const ALL: &str = "SELECT id, url, unlock, attached_at FROM repositories ORDER BY attached_at, id";
const DELETE: &str = "DELETE FROM repositories WHERE id = ?";
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[INSERT, ALL, DELETE];

/// Where the key of a repository comes from on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum UnlockSource {
    /// The operating system's keychain.
    Keychain,
    /// A passphrase, recovery key or private key given at each use, or this person's key pair.
    Passphrase,
    /// A file beside the demo's throwaway repository.
    Demo,
}

impl UnlockSource {
    fn as_str(self) -> &'static str {
        match self {
            Self::Keychain => "keychain",
            Self::Passphrase => "passphrase",
            Self::Demo => "demo",
        }
    }
}

/// A repository this machine knows.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RepositorySummary {
    /// The repository's own identity.
    #[ts(type = "string")]
    pub id: Uuid,
    /// Where it is.
    pub url: String,
    /// When this machine came to know it.
    #[ts(type = "string")]
    pub attached_at: DateTime<Utc>,
    /// How it is unlocked here.
    pub unlock: UnlockSource,
}

impl Catalog {
    pub(crate) async fn put_repository(&self, r: &RepositorySummary) -> Result<()> {
        sqlx::query(INSERT)
            .bind(r.id.to_string())
            .bind(&r.url)
            .bind(r.unlock.as_str())
            .bind(to_text(r.attached_at))
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("keep the repository"))?;
        Ok(())
    }

    pub(crate) async fn repositories(&self) -> Result<Vec<RepositorySummary>> {
        let rows = sqlx::query(ALL)
            .fetch_all(self.pool())
            .await
            .map_err(EngineError::catalog("list repositories"))?;
        rows.iter()
            .map(|row| {
                let id: String = row.get(0);
                let unlock: String = row.get(2);
                Ok(RepositorySummary {
                    id: id
                        .parse()
                        .map_err(|e| EngineError::Fault(format!("repository id {id:?}: {e}")))?,
                    url: row.get(1),
                    unlock: match unlock.as_str() {
                        "keychain" => UnlockSource::Keychain,
                        "demo" => UnlockSource::Demo,
                        _ => UnlockSource::Passphrase,
                    },
                    attached_at: from_text(row.get(3))?,
                })
            })
            .collect()
    }

    pub(crate) async fn forget_repository(&self, id: Uuid) -> Result<()> {
        sqlx::query(DELETE)
            .bind(id.to_string())
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("forget the repository"))?;
        Ok(())
    }
}
