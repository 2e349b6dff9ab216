//! A backup that the server sends: one stream of its walsender (`BASE_BACKUP`), compared with the manifest that comes
//! at its end.

use chrono::{DateTime, Utc};
use holdfast_repository::FileLookup;
use holdfast_wire::{
    BackupEvent, BaseBackup, BaseBackupOptions, Connection, ServerNotice, WireError,
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::files::{Received, StageMessage};
use super::incremental::{self, Basis, IncrementalMode};
use super::link::{Transfer, WireCompression};
use super::truncations::Truncations;
use super::{Copied, Ground, before, compare};
use crate::error::{EngineError, Result};
use crate::snapshot::{ManifestBy, SnapshotKind};

/// Messages of 32 KiB between the socket and the file stage: 4 MiB in flight.
const IN_FLIGHT: usize = 128;

/// How often an incremental backup is begun anew because a relation was truncated meanwhile.
const BEGINNINGS: usize = 3;

/// Copies everything, or what has changed.
pub(super) async fn copy(
    ground: &Ground<'_>,
    connection: Connection,
    incremental: IncrementalMode,
    wanted: WireCompression,
    mut transfer: Transfer,
) -> Result<Copied> {
    let reporter = &ground.job.reporter;
    let asked = Asked { id: ground.id, incremental, zstd: transfer.zstd_level() };
    let begun = match ground.begin(connection, asked).await {
        Ok(begun) => begun,
        Err(error) => {
            transfer = transfer.without(wanted, error, reporter)?;
            let (connection, _) = ground.engine.connect_for_backup(ground.cluster).await?;
            let asked = Asked { zstd: None, ..asked };
            ground.begin(connection, asked).await?
        }
    };
    let Begun { mut stream, basis, before, full_because, started_at } = begun;
    let kind = if basis.is_some() { SnapshotKind::Incremental } else { SnapshotKind::Full };
    let basis_id = basis.as_ref().map(|basis| basis.id);
    let (start_lsn, timeline) = (stream.start_lsn(), stream.timeline());
    ground.companion.require_start(start_lsn)?;
    let expected: u64 =
        stream.tablespaces().iter().filter_map(|t| t.size_kib).map(|k| k * 1024).sum();
    // Of an incremental backup the server estimates what it looks at, not what it sends.
    let expected = Some(expected).filter(|e| *e > 0 && basis.is_none());
    reporter.phase("copying", Some("bytes"), expected);

    let stage = ground.stage(start_lsn, basis, before).await?;
    let (messages, queue) = mpsc::channel(IN_FLIGHT);
    let staged = tokio::task::spawn_blocking({
        let runtime = tokio::runtime::Handle::current();
        move || stage.run(queue, &runtime)
    });
    let mut warnings = Vec::new();
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
    let Received { table, ingest, totals, manifest, pages, control } = received?;
    // Only the end of the whole command is success: a checksum failure arrives after the last byte.
    let end = stream.finish().await?;
    warnings.extend(end.warnings.iter().map(|n| n.message.clone()));
    let finished_at = Utc::now();
    let stop_lsn = end.end_lsn;
    end.connection.close().await;

    reporter.phase("comparing with the server's manifest", Some("files"), Some(totals.files));
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
    let (totals, listed, manifest) =
        compared.await.map_err(|e| EngineError::Fault(format!("the comparison failed: {e}")))??;
    reporter.done(listed);
    let received = Received { table, ingest, totals, manifest, pages, control };
    Ok(Copied {
        received,
        kind,
        basis: basis_id,
        full_because,
        started_at,
        finished_at,
        start_lsn,
        stop_lsn,
        timeline,
        manifest_by: ManifestBy::Server,
        transfer,
        warnings,
    })
}

impl Ground<'_> {
    /// Starts the backup on the server: incremental where that is wanted and possible.
    async fn begin(&self, mut connection: Connection, asked: Asked) -> Result<Begun> {
        let Self { engine, cluster, repository, .. } = *self;
        let reporter = &self.job.reporter;
        let basis = match asked.incremental {
            IncrementalMode::Never => None,
            IncrementalMode::Auto | IncrementalMode::Require => Some(
                incremental::find_basis(engine, cluster, repository, &mut connection, reporter)
                    .await,
            ),
        };
        let attempt = match basis {
            None => {
                return self.begin_full(connection, asked, None).await;
            }
            Some(Ok(basis)) => {
                self.begin_incremental(connection, asked, basis).await.map_err(|e| (e, None))
            }
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
                    None => engine.connect_for_backup(cluster).await?.0,
                };
                let because = Some(because);
                self.begin_full(connection, asked, because).await
            }
            Err((error, _)) => Err(error),
        }
    }

    async fn begin_full(
        &self,
        connection: Connection,
        asked: Asked,
        full_because: Option<String>,
    ) -> Result<Begun> {
        let reporter = &self.job.reporter;
        // Before the server begins: it would wait.
        let before = before::files(self.engine, self.cluster, self.repository, reporter).await;
        reporter.phase("waiting for the server's checkpoint", None, None);
        let started_at = Utc::now();
        let options = command(asked, &connection, false);
        let stream = connection.base_backup(options).await?;
        Ok(Begun { stream, basis: None, before, full_because, started_at })
    }

    async fn begin_incremental(
        &self,
        mut connection: Connection,
        asked: Asked,
        mut basis: Basis,
    ) -> Result<Begun> {
        let Self { engine, cluster, .. } = *self;
        let reporter = &self.job.reporter;
        for _ in 0..BEGINNINGS {
            let mut truncations =
                Truncations::since(&basis, engine, cluster, &connection, reporter).await?;
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
            connection = engine.connect_for_backup(cluster).await?.0;
        }
        Err(EngineError::refused(
            "truncated_meanwhile",
            format!(
                "relations were truncated each of the {BEGINNINGS} times that the backup began"
            ),
            "Run it again when VACUUM truncates less, or take a full backup.",
        ))
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
