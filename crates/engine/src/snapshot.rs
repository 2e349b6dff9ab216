//! Snapshots: one base backup as the repository keeps it.

pub(crate) mod contents;

use chrono::{DateTime, Utc};
use holdfast_postgres::{
    Lsn, ServerLimits, ServerVersion, SystemIdentifier, TimelineId, WalSegmentSize,
};
use holdfast_repository::{FILES_SUFFIX, FileTableRef, ObjectKind, Repository, SNAPSHOTS_PREFIX};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};

/// The manifest of a snapshot: its commit point. A manifest that can be read names only objects
/// that exist.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Snapshot {
    /// UUID version 7: ids sort by time.
    pub id: Uuid,
    /// The cluster it is of.
    pub cluster: Uuid,
    /// Full or incremental, as it was taken; every snapshot is logically full.
    pub kind: SnapshotKind,
    /// The snapshot that an incremental one was folded into; it is not needed any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Uuid>,
    /// Why it was taken, in somebody's words.
    pub reason: Option<String>,
    /// When the server was asked to begin.
    pub started_at: DateTime<Utc>,
    /// When everything was copied.
    pub finished_at: DateTime<Utc>,
    /// Where replay begins.
    pub start_lsn: Lsn,
    /// Where the copy is consistent.
    pub stop_lsn: Lsn,
    /// The timeline it was taken on.
    pub timeline: TimelineId,
    /// PostgreSQL's identity of the cluster.
    pub system_identifier: SystemIdentifier,
    /// The server's version.
    pub server_version: ServerVersion,
    /// Bytes of one WAL segment.
    pub segment_size: WalSegmentSize,
    /// Bytes of one page.
    pub block_size: u32,
    /// Sum of the sizes of all files.
    pub bytes_logical: u64,
    /// Bytes this snapshot added to the repository.
    pub bytes_added: u64,
    /// Number of files.
    pub files: u64,
    /// Where the list of files is.
    pub file_table: FileTableRef,
    /// Whose list of files and checksums its manifest is.
    #[serde(default, skip_serializing_if = "ManifestBy::is_server")]
    pub manifest_by: ManifestBy,
    /// What a server must be started with at least to replay.
    pub limits: ServerLimits,
    /// Facts about the source that a restore on another host must know.
    pub source: SourceFacts,
    /// Pages whose checksum was wrong; the newest snapshot with none is the better one.
    pub page_findings: Vec<PageMismatch>,
    /// More pages than are listed were wrong.
    #[serde(default)]
    pub page_findings_total: u64,
}

/// Who wrote the manifest of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum ManifestBy {
    /// The server, of what it sent.
    #[default]
    Server,
    /// Holdfast, of what it read beside the server.
    Holdfast,
}

impl ManifestBy {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_server(&self) -> bool {
        *self == Self::Server
    }
}

/// How a snapshot was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotKind {
    /// Everything was read.
    Full,
    /// Only what changed was read.
    Incremental,
}

/// A page whose checksum is not what the page says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageMismatch {
    /// The file, relative to the data directory.
    pub path: String,
    /// The block within the relation.
    pub block: u32,
    /// What the page says.
    pub stored: u16,
    /// What its bytes give.
    pub computed: u16,
}

/// Facts about the source that a restore on another host must know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SourceFacts {
    /// The bootstrap superuser's name.
    pub superuser: String,
    /// Libraries loaded at server start.
    pub shared_preload_libraries: Vec<String>,
    /// Locales and collation versions of its databases.
    pub databases: Vec<DatabaseFacts>,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// The server's own version sentence, with its platform.
    pub version_text: String,
    /// Settings that differ from their defaults, except secrets.
    pub settings: std::collections::BTreeMap<String, String>,
    /// Configuration files that lie outside the data directory, ordered by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configuration: Vec<ConfigurationFile>,
    /// Where the configuration files lie could not be seen: none of them may be in the backup.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub configuration_hidden: bool,
}

impl SourceFacts {
    /// A sentence for each configuration file that this snapshot should hold and does not.
    pub(crate) fn unread_configuration(&self) -> Vec<String> {
        let hidden = self.configuration_hidden.then(|| {
            "the role may not see where the server's configuration files lie: if that is outside the data directory, \
             they are not in the backup. Grant it pg_read_all_settings (pg_monitor has it), and pg_read_server_files"
                .to_owned()
        });
        self.configuration
            .iter()
            .filter_map(|file| match &file.content {
                Captured::Base64(_) => None,
                Captured::NotRead(why) => Some(format!(
                    "{} lies outside the data directory and could not be read ({why}): it is not in the backup. Grant \
                     the role pg_read_server_files, or keep the file elsewhere",
                    file.path
                )),
            })
            .chain(hidden)
            .collect()
    }
}

/// A configuration file of the server that no base backup holds, since it lies outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationFile {
    /// Its path on the server.
    pub path: String,
    /// What is in it.
    pub content: Captured,
}

/// The content of a file of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Captured {
    /// Its bytes (RFC 4648 §4, padded): a configuration need not be UTF-8.
    Base64(String),
    /// It could not be read; why.
    NotRead(String),
}

/// Locale and collation of one database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The provider: 'c' libc, 'i' ICU, 'b' built in.
    pub provider: String,
    /// The collation's version when it was last recorded (15 and later).
    pub collation_version: Option<String>,
    /// The collation's version on the source host at backup time (15 and later).
    pub actual_version: Option<String>,
}

/// A proof: a restore that reached its target, on which day, how long it took.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Proof {
    /// When.
    #[ts(type = "string")]
    pub at: DateTime<Utc>,
    /// The target as it was asked for.
    pub target: String,
    /// Where replay stopped.
    #[ts(type = "string")]
    pub reached_lsn: Lsn,
    /// The commit time of the last transaction replayed.
    #[ts(type = "string | null")]
    pub reached_time: Option<DateTime<Utc>>,
    /// From the start to the last check.
    pub seconds: f64,
    /// The job that did it.
    pub job: String,
}

/// A snapshot's id as somebody wrote it; what is none names no snapshot.
///
/// # Errors
/// [`EngineError::NotFound`].
pub fn parse_id(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| EngineError::NotFound { what: "snapshot", name: text.to_owned() })
}

/// Where a cluster's snapshot manifests are.
pub(crate) fn prefix(cluster: Uuid) -> String {
    format!("{SNAPSHOTS_PREFIX}/{cluster}/")
}

/// Whether something below `snapshots/` is a manifest.
pub(crate) fn is_manifest(path: &str) -> bool {
    is_below(path) && !path.contains('.')
}

/// Whether something below `snapshots/` is a list of files.
pub(crate) fn is_file_table(path: &str) -> bool {
    is_below(path) && path.ends_with(FILES_SUFFIX)
}

fn is_below(path: &str) -> bool {
    path.strip_prefix(SNAPSHOTS_PREFIX).is_some_and(|rest| rest.starts_with('/'))
}

/// Where a snapshot's proofs are.
pub(crate) fn proofs_prefix(cluster: Uuid, snapshot: Uuid) -> String {
    format!("proofs/{cluster}/{snapshot}/")
}

impl Snapshot {
    /// The path of the manifest.
    pub fn path(&self) -> String {
        Self::manifest_path(self.cluster, self.id)
    }

    /// The path of a manifest.
    pub(crate) fn manifest_path(cluster: Uuid, id: Uuid) -> String {
        format!("{}{id}", prefix(cluster))
    }

    /// Whether this is the manifest that belongs at `path`. A signature says who wrote a manifest, and not that it
    /// speaks of itself: one that names another snapshot, or another one's list of files, is none.
    pub(crate) fn belongs_at(&self, path: &str) -> bool {
        let belongs = self.path() == path
            && self.file_table.path == Self::file_table_path(self.cluster, self.id);
        if !belongs {
            tracing::warn!(%path, id = %self.id, "a manifest of something else is not used");
        }
        belongs
    }

    /// The path of the list of files.
    pub(crate) fn file_table_path(cluster: Uuid, id: Uuid) -> String {
        format!("{}{id}{FILES_SUFFIX}", prefix(cluster))
    }
}

/// A document of the repository that never changes, through the catalog's cache.
pub(crate) async fn cached_document<T: serde::de::DeserializeOwned + Serialize>(
    catalog: &Catalog,
    repository: &Repository,
    path: &str,
    kind: ObjectKind,
) -> Result<T> {
    if let Some(body) = catalog.cached_document(repository.id(), path).await?
        && let Ok(value) = serde_json::from_str(&body)
    {
        return Ok(value);
    }
    let value: T = repository.get_document(path, kind).await?;
    let body = serde_json::to_string(&value)
        .map_err(|e| EngineError::Fault(format!("a document of {path}: {e}")))?;
    catalog.put_cached_document(repository.id(), path, &body).await?;
    Ok(value)
}

/// All snapshots of a cluster, oldest first, each with its newest proof.
pub(crate) async fn list(
    catalog: &Catalog,
    repository: &Repository,
    cluster: &Cluster,
) -> Result<Vec<(Snapshot, Option<Proof>)>> {
    let mut proofs = std::collections::HashMap::<Uuid, String>::new();
    for entry in repository.list(&format!("proofs/{}/", cluster.id)).await? {
        let mut parts = entry.path.rsplit('/');
        let _file = parts.next();
        if let Some(snapshot) = parts.next().and_then(|s| s.parse().ok()) {
            let newest = proofs.entry(snapshot).or_default();
            if entry.path > *newest {
                *newest = entry.path;
            }
        }
    }
    let mut snapshots = Vec::new();
    for entry in repository.list(&prefix(cluster.id)).await? {
        if !is_manifest(&entry.path) {
            continue;
        }
        let snapshot: Snapshot =
            cached_document(catalog, repository, &entry.path, ObjectKind::Snapshot).await?;
        if !snapshot.belongs_at(&entry.path) {
            continue;
        }
        let proof = match proofs.get(&snapshot.id) {
            Some(path) => {
                Some(cached_document::<Proof>(catalog, repository, path, ObjectKind::Proof).await?)
            }
            None => None,
        };
        snapshots.push((snapshot, proof));
    }
    snapshots.sort_by_key(|(s, _)| (s.start_lsn, s.id));
    Ok(snapshots)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// A snapshot of which only its WAL matters.
    pub(crate) fn snapshot(system: SystemIdentifier, start: Lsn, stop: Lsn) -> Snapshot {
        let id = Uuid::from_u128(1);
        serde_json::from_value(serde_json::json!({
            "id": id, "cluster": id, "kind": "full", "reason": null,
            "started_at": "2026-06-01T00:00:00Z", "finished_at": "2026-06-01T00:01:00Z",
            "start_lsn": start, "stop_lsn": stop, "timeline": 1, "system_identifier": system,
            "server_version": 170_011, "segment_size": 16 << 20, "block_size": 8192,
            "bytes_logical": 0, "bytes_added": 0, "files": 0,
            "file_table": { "path": "snapshots/a/b.files", "blake3": "", "bytes": 0, "entries": 0 },
            "limits": {
                "max_connections": 100, "max_worker_processes": 8, "max_wal_senders": 10,
                "max_prepared_xacts": 0, "max_locks_per_xact": 64, "wal_level": 1,
                "track_commit_timestamp": false
            },
            "source": {
                "superuser": "postgres", "shared_preload_libraries": [], "databases": [],
                "data_checksums": true, "version_text": "", "settings": {}
            },
            "page_findings": []
        }))
        .unwrap()
    }

    #[test]
    fn what_lies_below_snapshots_is_told_apart() {
        assert!(is_manifest("snapshots/a/b") && !is_manifest("snapshots/a/b.files"));
        assert!(is_file_table("snapshots/a/b.files") && !is_file_table("snapshots/a/b"));
        assert!(!is_manifest("policies/a/b"));
    }

    #[test]
    fn a_manifest_that_speaks_of_something_else_is_none() {
        let mut own = snapshot(SystemIdentifier(7), Lsn(1), Lsn(2));
        own.file_table.path = Snapshot::file_table_path(own.cluster, own.id);
        assert!(own.belongs_at(&own.path()));
        assert!(!own.belongs_at(&format!("{}{}", prefix(own.cluster), Uuid::from_u128(9))));
        let mut other = own.clone();
        other.file_table.path = Snapshot::file_table_path(own.cluster, Uuid::from_u128(9));
        assert!(!other.belongs_at(&other.path()));
        let mut elsewhere = own.clone();
        elsewhere.cluster = Uuid::from_u128(9);
        assert!(!elsewhere.belongs_at(&own.path()));
    }
}
