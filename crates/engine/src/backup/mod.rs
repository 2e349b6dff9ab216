//! Taking a base backup: slot first, then the WAL stream, then the copy; the manifest of the
//! snapshot is written last, when everything it names is durable and was compared with what the
//! server says it sent.

mod archive_stream;
mod before;
pub(crate) mod checksum;
mod companion;
pub(crate) mod compare;
mod configuration;
mod files;
mod fold;
mod incremental;
mod link;
pub(crate) mod pages;
mod source;
mod truncations;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use holdfast_repository::{FileLookup, FileTableWriter, IngestOptions, ObjectKind, Repository};
use holdfast_wire::{
    BackupEvent, BaseBackup, BaseBackupOptions, Connection, ServerNotice, WireError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cluster::{Cluster, parse_size};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind, Reporter};
use crate::lease::HeldLease;
use crate::points::SnapshotSummary;
use crate::retention::tombstone;
use crate::snapshot::{Snapshot, SnapshotKind};
use crate::{Engine, Finding, PhaseTime, Severity};

use companion::Companion;
use files::{FileStage, Received, StageMessage};
use incremental::Basis;
use pages::Shape;
use truncations::Truncations;

pub use incremental::IncrementalMode;
pub use link::{Transfer, WireCompression};

/// Messages of 32 KiB between the socket and the file stage: 4 MiB in flight.
const IN_FLIGHT: usize = 128;

/// How often an incremental backup is begun anew because a relation was truncated meanwhile.
const BEGINNINGS: usize = 3;

/// How to take a backup.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Why, in somebody's words.
    pub reason: Option<String>,
    /// Whether to read only what changed.
    pub incremental: IncrementalMode,
    /// Whether the server compresses what it sends.
    pub wire_compression: WireCompression,
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
    /// How it came over the network.
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
        let mut transfer = Transfer::choose(options.wire_compression, &mut sql, reporter).await?;
        sql.close().await;
        let mut warnings = facts.unread_configuration();
        for warning in &warnings {
            reporter.warning(warning.clone());
        }
        let (mut connection, _) = self.connect_for_backup(cluster).await?;
        let version = connection.facts().version;
        let shape = shape(&mut connection).await?;

        reporter.phase("starting WAL stream", None, None);
        let mut companion = Companion::start(self, cluster, repository, reporter).await?;

        let id = Uuid::now_v7();
        let asked = Asked { id, incremental: options.incremental, zstd: transfer.zstd_level() };
        let begun = match self.begin(job, cluster, repository, connection, asked).await {
            Ok(begun) => begun,
            Err(error) => {
                transfer = transfer.without(options.wire_compression, error, reporter)?;
                let (connection, _) = self.connect_for_backup(cluster).await?;
                let asked = Asked { zstd: None, ..asked };
                self.begin(job, cluster, repository, connection, asked).await?
            }
        };
        let Begun { mut stream, basis, before, full_because, started_at } = begun;
        let kind = if basis.is_some() { SnapshotKind::Incremental } else { SnapshotKind::Full };
        let basis_id = basis.as_ref().map(|basis| basis.id);
        let start_lsn = stream.start_lsn();
        let timeline = stream.timeline();
        companion.require_start(start_lsn)?;
        let expected: u64 =
            stream.tablespaces().iter().filter_map(|t| t.size_kib).map(|k| k * 1024).sum();
        // Of an incremental backup the server estimates what it looks at, not what it sends.
        let expected = Some(expected).filter(|e| *e > 0 && basis.is_none());
        reporter.phase("copying", Some("bytes"), expected);

        // After the lease: what is marked later is not removed before it ends.
        let avoided = tombstone::avoided_packs(self.catalog(), repository).await?;
        let ingest = IngestOptions::default().with_avoided(avoided);
        let ingest = Arc::new(repository.begin_ingest_with(ingest).await?);
        let table = FileTableWriter::begin(repository).await?;
        let checksums = facts.data_checksums;
        let stage = FileStage::new(ingest, table, start_lsn, shape, checksums, basis, before);
        let (messages, queue) = mpsc::channel(IN_FLIGHT);
        let staged = tokio::task::spawn_blocking({
            let runtime = tokio::runtime::Handle::current();
            move || stage.run(queue, &runtime)
        });
        let sent = async {
            while let Some(event) = stream.next().await? {
                let message = match event {
                    BackupEvent::Archive { tablespace_oid, zstd, .. } => {
                        StageMessage::Archive { tablespace: tablespace_oid, zstd }
                    }
                    BackupEvent::Data(bytes) => {
                        transfer.bytes += bytes.len() as u64;
                        if !transfer.zstd {
                            reporter.done(transfer.bytes);
                        }
                        StageMessage::Data(bytes)
                    }
                    BackupEvent::ManifestStart => StageMessage::Manifest,
                    BackupEvent::Progress(read) => {
                        if transfer.zstd {
                            reporter.done(read);
                        }
                        continue;
                    }
                    BackupEvent::Notice(notice) => {
                        reporter.warning(format!("server: {}", notice.message));
                        warnings.push(notice.message);
                        continue;
                    }
                };
                if messages.send(message).await.is_err() {
                    break;
                }
            }
            Ok::<_, WireError>(())
        }
        .await;
        drop(messages);
        // The stage knows why it stopped taking; only then is the stream's own error the cause.
        let received =
            staged.await.map_err(|e| EngineError::Fault(format!("the file stage failed: {e}")))?;
        sent?;
        let Received { mut table, ingest, totals, manifest, pages, control } = received?;
        // Only the end of the whole command is success: a checksum failure arrives after the last byte.
        let end = stream.finish().await?;
        warnings.extend(end.warnings.iter().map(|n| n.message.clone()));
        let finished_at = Utc::now();
        let stop_lsn = end.end_lsn;
        end.connection.close().await;

        reporter.phase("comparing with the server's manifest", Some("files"), Some(totals.files));
        let limits = control.limits;
        // A manifest of many files takes a while to read.
        let compared = tokio::task::spawn_blocking(move || {
            let read =
                compare::with_manifest(&manifest, &totals.checks, timeline, start_lsn, stop_lsn)?;
            let listed = read.files.len() as u64;
            let manifest = match kind {
                SnapshotKind::Full => manifest,
                SnapshotKind::Incremental => compare::of_whole_files(read, &totals.changed),
            };
            Ok::<_, EngineError>((totals, listed, manifest))
        });
        let (totals, listed, manifest) = compared
            .await
            .map_err(|e| EngineError::Fault(format!("the comparison failed: {e}")))??;
        reporter.done(listed);
        files::store_manifest(&ingest, &mut table, manifest).await?;

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
            kind,
            basis: basis_id,
            reason: options.reason,
            started_at,
            finished_at,
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
            limits,
            source: facts,
            page_findings: pages.listed,
            page_findings_total: pages.total,
        };
        self.commit(repository, &snapshot, lease).await?;
        companion.stop().await?;
        Ok(BackupResult {
            job: job.id.to_string(),
            basis: basis_id.map(|id| id.to_string()),
            full_because,
            files: snapshot.files,
            transfer,
            page_findings: findings_of(&snapshot),
            snapshot: SnapshotSummary::of(&snapshot, None, &[]),
            phases: reporter.phases(),
            warnings,
        })
    }

    /// Starts the backup on the server: incremental where that is wanted and possible.
    async fn begin(
        &self,
        job: &JobContext,
        cluster: &Cluster,
        repository: &Repository,
        mut connection: Connection,
        asked: Asked,
    ) -> Result<Begun> {
        let reporter = &job.reporter;
        let basis = match asked.incremental {
            IncrementalMode::Never => None,
            IncrementalMode::Auto | IncrementalMode::Require => Some(
                incremental::find_basis(self, cluster, repository, &mut connection, reporter).await,
            ),
        };
        let attempt = match basis {
            None => {
                return self
                    .begin_full(cluster, repository, connection, reporter, asked, None)
                    .await;
            }
            Some(Ok(basis)) => self
                .begin_incremental(connection, cluster, reporter, asked, basis)
                .await
                .map_err(|e| (e, None)),
            Some(Err(error)) => Err((error, Some(connection))),
        };
        match attempt {
            Ok(begun) => Ok(begun),
            Err((EngineError::Refused { message, hint, .. }, connection))
                if asked.incremental == IncrementalMode::Auto =>
            {
                let because = format!("{message}. {hint}");
                reporter.log(format!("a full backup is taken: {because}"));
                let connection = match connection {
                    Some(connection) => connection,
                    // The server's error ended the session's command and ours with it.
                    None => self.connect_for_backup(cluster).await?.0,
                };
                let because = Some(because);
                self.begin_full(cluster, repository, connection, reporter, asked, because).await
            }
            Err((error, _)) => Err(error),
        }
    }

    async fn begin_full(
        &self,
        cluster: &Cluster,
        repository: &Repository,
        connection: Connection,
        reporter: &Reporter,
        asked: Asked,
        full_because: Option<String>,
    ) -> Result<Begun> {
        // Before the server begins: it would wait.
        let before = before::files(self, cluster, repository, reporter).await;
        reporter.phase("waiting for the server's checkpoint", None, None);
        let started_at = Utc::now();
        let options = command(asked, &connection, false);
        let stream = connection.base_backup(options).await?;
        Ok(Begun { stream, basis: None, before, full_because, started_at })
    }

    async fn begin_incremental(
        &self,
        mut connection: Connection,
        cluster: &Cluster,
        reporter: &Reporter,
        asked: Asked,
        mut basis: Basis,
    ) -> Result<Begun> {
        for _ in 0..BEGINNINGS {
            let mut truncations =
                Truncations::since(&basis, self, cluster, &connection, reporter).await?;
            basis.read_whole = truncations.relations().clone();
            reporter.phase("sending the previous snapshot's manifest", None, None);
            connection.upload_manifest(basis.manifest()).await.map_err(incremental::refusal)?;
            reporter.phase("waiting for the server's checkpoint and WAL summaries", None, None);
            let started_at = Utc::now();
            let options = command(asked, &connection, true);
            let mut relay =
                |notice: &ServerNotice| reporter.warning(format!("server: {}", notice.message));
            let stream = connection
                .base_backup_noting(options, &mut relay)
                .await
                .map_err(incremental::refusal)?;
            // The server has waited for the summaries up to its checkpoint; nothing was sent yet.
            if !truncations.read_up_to(stream.start_lsn(), reporter).await? {
                truncations.close().await;
                let basis = Some(basis);
                return Ok(Begun { stream, basis, before: None, full_because: None, started_at });
            }
            reporter.log("begun anew: a table was truncated before the backup's checkpoint");
            drop(stream);
            connection = self.connect_for_backup(cluster).await?.0;
        }
        Err(EngineError::refused(
            "truncated_meanwhile",
            format!(
                "relations were truncated each of the {BEGINNINGS} times that the backup began"
            ),
            "Run it again when VACUUM truncates less, or take a full backup.",
        ))
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

/// What is asked of the server.
#[derive(Clone, Copy)]
struct Asked {
    /// Of the snapshot that it becomes.
    id: Uuid,
    incremental: IncrementalMode,
    /// The level at which it compresses what it sends.
    zstd: Option<u8>,
}

/// A backup that the server has begun.
struct Begun {
    stream: BaseBackup,
    basis: Option<Basis>,
    /// For a full one, the files of the snapshot before it.
    before: Option<FileLookup>,
    full_because: Option<String>,
    started_at: DateTime<Utc>,
}

/// What the server is asked for.
fn command(asked: Asked, connection: &Connection, incremental: bool) -> BaseBackupOptions {
    BaseBackupOptions {
        label: format!("holdfast {}", asked.id),
        fast_checkpoint: true,
        max_rate_kib: None,
        manifest: true,
        // Before 16 a server that makes the map leaves in-place tablespaces out, contents and all
        // (`sendDir` in basebackup.c): the links are taken instead, and dropped.
        tablespace_map: connection.facts().version.major() >= 16,
        incremental,
        verify_checksums: true,
        progress: true,
        include_wal: false,
        zstd_level: asked.zstd,
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
