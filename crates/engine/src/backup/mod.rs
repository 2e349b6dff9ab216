//! Taking a base backup: slot first, then the WAL stream, then the copy; the manifest of the
//! snapshot is written last, when everything it names is durable. What the server sent was compared
//! with what it says it sent; what was read beside it, with what it says it has.

mod archive_stream;
mod before;
pub(crate) mod checksum;
mod companion;
pub(crate) mod compare;
mod configuration;
mod files;
mod fold;
mod from_files;
mod from_server;
mod incremental;
mod link;
pub(crate) mod pages;
mod source;
mod truncations;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, TimelineId};
use holdfast_repository::{FileLookup, FileTableWriter, IngestOptions, ObjectKind, Repository};
use holdfast_wire::Connection;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cluster::{Cluster, parse_size};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::lease::HeldLease;
use crate::points::SnapshotSummary;
use crate::retention::tombstone;
use crate::snapshot::{ManifestBy, Snapshot, SnapshotKind};
use crate::{Engine, Finding, PhaseTime, Severity};

use companion::Companion;
use files::{FileStage, Received};
use from_files::ServerFiles;
use incremental::Basis;
use pages::Shape;

pub use from_files::LocalFiles;
pub use incremental::IncrementalMode;
pub use link::{Source, Transfer, WireCompression};

/// How to take a backup.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Why, in somebody's words.
    pub reason: Option<String>,
    /// Whether to read only what changed.
    pub incremental: IncrementalMode,
    /// Whether the server compresses what it sends.
    pub wire_compression: WireCompression,
    /// Whether its files are read beside it, without it sending them.
    pub local_files: LocalFiles,
}

/// What a backup did.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct BackupResult {
    /// The job.
    pub job: String,
    /// The new snapshot.
    pub snapshot: SnapshotSummary,
    /// How long each phase took.
    pub phases: Vec<PhaseTime>,
    /// The snapshot that an incremental backup was folded into.
    pub basis: Option<String>,
    /// Why everything was read although less would have been accepted.
    pub full_because: Option<String>,
    /// Files in it.
    #[ts(type = "number")]
    pub files: u64,
    /// How its files came here.
    pub transfer: Transfer,
    /// What the server warned about.
    pub warnings: Vec<String>,
    /// Pages whose checksum was wrong.
    pub page_findings: Vec<Finding>,
}

impl Engine {
    /// Takes a backup of a cluster.
    ///
    /// # Errors
    /// When the server, the stream or the store fails, or when what arrived is not what the server
    /// says it sent. Nothing half-written is listed then.
    pub async fn backup(
        &self,
        name: &str,
        options: BackupOptions,
        cancel: CancellationToken,
    ) -> Result<BackupResult> {
        let cluster = self.cluster(name).await?;
        let engine = self.clone();
        self.run_job(
            JobKind::Backup,
            Some(name),
            format!("Back up {name}"),
            cancel,
            |job| async move { engine.backup_in(job, cluster, options).await },
        )
        .await
    }

    /// The same in the background.
    ///
    /// # Errors
    /// When the job cannot be recorded.
    pub async fn start_backup(&self, name: &str, options: BackupOptions) -> Result<JobId> {
        let cluster = self.cluster(name).await?;
        let engine = self.clone();
        self.start_job(JobKind::Backup, Some(name), format!("Back up {name}"), |job| async move {
            engine.backup_in(job, cluster, options).await
        })
        .await
    }

    pub(crate) async fn backup_in(
        &self,
        job: JobContext,
        cluster: Cluster,
        options: BackupOptions,
    ) -> Result<BackupResult> {
        let cancel = job.cancel.clone();
        tokio::select! {
            outcome = self.take_backup(&job, &cluster, options) => outcome,
            () = cancel.cancelled() => Err(EngineError::Cancelled),
        }
    }

    async fn take_backup(
        &self,
        job: &JobContext,
        cluster: &Cluster,
        options: BackupOptions,
    ) -> Result<BackupResult> {
        let reporter = &job.reporter;
        reporter.phase("connecting", None, None);
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let lease = HeldLease::to_write(self, &repository, job, JobKind::Backup).await?;
        let outcome = self.take_backup_held(job, cluster, options, &repository, &lease).await;
        lease.release().await;
        outcome
    }

    async fn take_backup_held(
        &self,
        job: &JobContext,
        cluster: &Cluster,
        options: BackupOptions,
        repository: &Repository,
        lease: &HeldLease,
    ) -> Result<BackupResult> {
        let reporter = &job.reporter;
        let mut sql = self.connect_sql(cluster).await?;
        let facts = source::look(&mut sql).await?;
        let mut warnings = facts.unread_configuration();
        for warning in &warnings {
            reporter.warning(warning.clone());
        }
        let version = sql.facts().version;
        let shape = shape(&mut sql).await?;

        reporter.phase("starting WAL stream", None, None);
        let mut companion = Companion::start(self, cluster, repository, reporter).await?;

        let ground = Ground {
            engine: self,
            job,
            cluster,
            repository,
            companion: &companion,
            shape,
            checksums: facts.data_checksums,
            id: Uuid::now_v7(),
        };
        let copied = ground.copy(sql, &options).await?;
        let Received { mut table, ingest, totals, manifest, pages, control } = copied.received;
        let (start_lsn, stop_lsn, timeline) = (copied.start_lsn, copied.stop_lsn, copied.timeline);
        let id = ground.id;
        warnings.extend(copied.warnings);
        files::store(&ingest, &mut table, "backup_manifest", manifest, 0).await?;

        reporter.phase("storing", None, None);
        let ingest = Arc::into_inner(ingest)
            .ok_or_else(|| EngineError::Fault("the ingest is still in use".to_owned()))?;
        let stats = ingest.flush().await?;
        let file_table = table.finish(&Snapshot::file_table_path(cluster.id, id)).await?;

        reporter.phase("waiting for its WAL", None, None);
        companion.wait_durable(stop_lsn).await?;
        Companion::require_whole(self, cluster, repository, timeline, start_lsn, stop_lsn).await?;

        reporter.phase("committing", None, None);
        let snapshot = Snapshot {
            id,
            cluster: cluster.id,
            kind: copied.kind,
            basis: copied.basis,
            reason: options.reason,
            started_at: copied.started_at,
            finished_at: copied.finished_at,
            start_lsn,
            stop_lsn,
            timeline,
            system_identifier: cluster.system_identifier,
            server_version: version,
            segment_size: cluster.segment_size,
            block_size: shape.block_size,
            bytes_logical: totals.bytes,
            bytes_added: stats.bytes_stored + file_table.bytes,
            files: totals.files,
            file_table,
            manifest_by: copied.manifest_by,
            limits: control.limits,
            source: facts,
            page_findings: pages.listed,
            page_findings_total: pages.total,
        };
        self.commit(repository, &snapshot, lease).await?;
        companion.stop().await?;
        Ok(BackupResult {
            job: job.id.to_string(),
            basis: snapshot.basis.map(|id| id.to_string()),
            full_because: copied.full_because,
            files: snapshot.files,
            transfer: copied.transfer,
            page_findings: findings_of(&snapshot),
            snapshot: SnapshotSummary::of(&snapshot, None, &[]),
            phases: reporter.phases(),
            warnings,
        })
    }

    /// Writes the manifest, and believes it only when it reads back and the lease was held all the time: what it
    /// shares with others may have been removed otherwise.
    async fn commit(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        lease: &HeldLease,
    ) -> Result<()> {
        lease.check().await?;
        let path = snapshot.path();
        repository.put_document(&path, ObjectKind::Snapshot, snapshot).await?;
        let read: Snapshot = repository.get_document(&path, ObjectKind::Snapshot).await?;
        if read.id != snapshot.id || read.file_table.blake3 != snapshot.file_table.blake3 {
            return Err(EngineError::integrity(
                "manifest_differs",
                format!("{path} reads back as something else than was written"),
                "The store does not keep what it confirms. Do not rely on it.",
            ));
        }
        match lease.check().await {
            Err(error) if lease.has_lapsed() => {
                if let Err(left) = repository.delete(&path).await {
                    tracing::warn!(%path, error = %left, "the manifest of a backup that does not count stays");
                }
                Err(error)
            }
            // It was held a moment ago and lasts for minutes: a store that does not answer now takes nothing away.
            Err(error) => {
                tracing::info!(%error, "a lease could not be renewed at the end of a backup");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// What every way of copying a cluster stands on.
struct Ground<'a> {
    engine: &'a Engine,
    job: &'a JobContext,
    cluster: &'a Cluster,
    repository: &'a Repository,
    companion: &'a Companion,
    shape: Shape,
    /// Whether pages carry checksums.
    checksums: bool,
    /// Of the snapshot that it becomes.
    id: Uuid,
}

/// A copy whose files are all taken; nothing names it yet.
struct Copied {
    received: Received,
    kind: SnapshotKind,
    /// What it was folded into.
    basis: Option<Uuid>,
    full_because: Option<String>,
    started_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    start_lsn: Lsn,
    stop_lsn: Lsn,
    timeline: TimelineId,
    manifest_by: ManifestBy,
    transfer: Transfer,
    warnings: Vec<String>,
}

impl Ground<'_> {
    /// Copies in the way that is wanted and possible: what has changed is sent by the server, everything is read from
    /// its files where they are at hand.
    async fn copy(&self, mut sql: Connection, options: &BackupOptions) -> Result<Copied> {
        let reporter = &self.job.reporter;
        // Whoever says how the server is to send its files wants it to send them.
        let sent = options.incremental != IncrementalMode::Never
            || options.wire_compression != WireCompression::Auto;
        if !sent && options.local_files != LocalFiles::Never {
            let wanted = options.local_files;
            let found = wanted.settle(ServerFiles::find(self.cluster, &mut sql).await)?;
            let why = match found {
                Ok(files) => match wanted.settle(files.begin(self, sql).await)? {
                    Ok(begun) => return begun.copy(self).await,
                    Err(why) => {
                        sql = self.engine.connect_sql(self.cluster).await?;
                        why
                    }
                },
                Err(why) => why,
            };
            reporter.log(format!("the server sends its files: {why}"));
        } else if options.local_files == LocalFiles::Require {
            return Err(EngineError::usage(
                "an incremental backup, or one with --wire-compression, is sent by the server: its files are not read here",
                "Leave out --local-files require, or --incremental and --wire-compression.",
            ));
        }
        let wanted = options.wire_compression;
        let transfer = Transfer::choose(wanted, &mut sql, reporter).await?;
        sql.close().await;
        let (connection, _) = self.engine.connect_for_backup(self.cluster).await?;
        from_server::copy(self, connection, options.incremental, wanted, transfer).await
    }

    /// Where the files of a copy go that began at `start_lsn`.
    async fn stage(
        &self,
        start_lsn: Lsn,
        basis: Option<Basis>,
        before: Option<FileLookup>,
    ) -> Result<FileStage> {
        // After the lease: what is marked later is not removed before it ends.
        let avoided = tombstone::avoided_packs(self.engine.catalog(), self.repository).await?;
        let ingest = IngestOptions::default().with_avoided(avoided);
        let ingest = Arc::new(self.repository.begin_ingest_with(ingest).await?);
        let table = FileTableWriter::begin(self.repository).await?;
        let (shape, checksums) = (self.shape, self.checksums);
        Ok(FileStage::new(ingest, table, start_lsn, shape, checksums, basis, before))
    }
}

/// The sizes the server was built with, which `SHOW` prints with a unit.
async fn shape(connection: &mut Connection) -> Result<Shape> {
    let block = connection.show("block_size").await?;
    let segment = connection.show("segment_size").await?;
    let strange = || {
        EngineError::Fault(format!(
            "the server's block_size is {block:?}, its segment_size {segment:?}"
        ))
    };
    let block_size: u32 = block.parse().ok().filter(|n| *n > 0).ok_or_else(strange)?;
    let segment_blocks = parse_size(&segment)
        .and_then(|bytes| u32::try_from(bytes / u64::from(block_size)).ok())
        .ok_or_else(strange)?;
    Ok(Shape { block_size, segment_blocks })
}

fn findings_of(snapshot: &Snapshot) -> Vec<Finding> {
    snapshot
        .page_findings
        .iter()
        .map(|p| {
            Finding::new(
                Severity::Error,
                "page_checksum_mismatch",
                format!(
                    "{} block {}: the page says {:04x}, its bytes give {:04x}",
                    p.path, p.block, p.stored, p.computed
                ),
                None,
            )
        })
        .collect()
}
