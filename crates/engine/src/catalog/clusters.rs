//! The clusters this machine knows.

use chrono::{DateTime, Utc};
use holdfast_postgres::{ServerVersion, SystemIdentifier, WalSegmentSize};
use sqlx::Row as _;
use uuid::Uuid;

use super::{Catalog, from_text, to_text};
use crate::cluster::{AccessMode, Cluster};
use crate::error::{EngineError, Result};

const INSERT: &str = "INSERT INTO clusters
     (id, name, repository_id, dsn, system_identifier, server_version, mode, segment_size, slot, created_at, demo)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, repository_id = excluded.repository_id,
       dsn = excluded.dsn, system_identifier = excluded.system_identifier,
       server_version = excluded.server_version, mode = excluded.mode,
       segment_size = excluded.segment_size, slot = excluded.slot";
const ALL: &str = "SELECT id, name, repository_id, dsn, system_identifier, server_version, mode, segment_size, slot,
     created_at, demo FROM clusters ORDER BY name";
const DELETE: &str = "DELETE FROM clusters WHERE id = ?";
#[cfg(test)]
pub(super) const STATEMENTS: &[&str] = &[INSERT, ALL, DELETE];

impl Catalog {
    pub(crate) async fn put_cluster(&self, c: &Cluster) -> Result<()> {
        sqlx::query(INSERT)
            .bind(c.id.to_string())
            .bind(&c.name)
            .bind(c.repository.to_string())
            .bind(&c.dsn)
            .bind(c.system_identifier.to_string())
            .bind(i64::from(c.server_version.0))
            .bind(c.mode.as_str())
            .bind(i64::try_from(c.segment_size.bytes()).unwrap_or(i64::MAX))
            .bind(&c.slot)
            .bind(to_text(c.created_at))
            .bind(i64::from(c.demo))
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("keep the cluster"))?;
        Ok(())
    }

    pub(crate) async fn clusters(&self) -> Result<Vec<Cluster>> {
        let rows = sqlx::query(ALL)
            .fetch_all(self.pool())
            .await
            .map_err(EngineError::catalog("list clusters"))?;
        rows.iter().map(from_row).collect()
    }

    pub(crate) async fn cluster(&self, name: &str) -> Result<Cluster> {
        self.clusters()
            .await?
            .into_iter()
            .find(|c| c.name == name)
            .ok_or_else(|| EngineError::NotFound { what: "cluster", name: name.to_owned() })
    }

    pub(crate) async fn forget_cluster(&self, id: Uuid) -> Result<()> {
        sqlx::query(DELETE)
            .bind(id.to_string())
            .execute(self.pool())
            .await
            .map_err(EngineError::catalog("forget the cluster"))?;
        Ok(())
    }
}

fn from_row(row: &sqlx::sqlite::SqliteRow) -> Result<Cluster> {
    let uuid = |i: usize| -> Result<Uuid> {
        let text: String = row.get(i);
        text.parse().map_err(|e| {
            EngineError::Fault(format!("the catalog holds {text:?} where an id belongs: {e}"))
        })
    };
    let system: String = row.get(4);
    let size: i64 = row.get(7);
    let created: DateTime<Utc> = from_text(row.get(9))?;
    Ok(Cluster {
        id: uuid(0)?,
        name: row.get(1),
        repository: uuid(2)?,
        dsn: row.get(3),
        system_identifier: SystemIdentifier(
            system
                .parse()
                .map_err(|_| EngineError::Fault(format!("system identifier {system:?}")))?,
        ),
        server_version: ServerVersion(u32::try_from(row.get::<i64, _>(5)).unwrap_or(0)),
        mode: AccessMode::parse(row.get(6)),
        segment_size: u64::try_from(size)
            .ok()
            .and_then(WalSegmentSize::new)
            .ok_or_else(|| EngineError::Fault(format!("segment size {size}")))?,
        slot: row.get(8),
        created_at: created,
        demo: row.get::<i64, _>(10) != 0,
    })
}
