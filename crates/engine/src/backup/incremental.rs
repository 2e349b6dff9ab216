//! Whether a backup can be incremental, on which snapshot it builds, and why not.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::Stream;
use holdfast_postgres::{
    Lsn, ManifestError, ManifestReader, ManifestWriter, SystemIdentifier, TimelineHistory,
    TimelineId,
};
use holdfast_repository::{
    EntryKind, ExtentId, ExtentReader, FileEntry, FileLookup, ObjectKind, Repository,
};
use holdfast_wire::{Connection, ServerError, WireError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Engine;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::Reporter;
use crate::snapshot::Snapshot;

use super::before;
use super::truncations::TruncatedRelations;

/// Extents of the manifest that are read at once.
const MANIFEST_EXTENTS: usize = 16;
/// The manifests of servers that take incremental backups.
const MANIFEST_VERSION: u32 = 2;

/// What to do about a server that does not summarize.
const SUMMARIZE: &str =
    "ALTER SYSTEM SET summarize_wal = 'on'; SELECT pg_reload_conf(); -- then take one full backup";

/// Whether to read only what changed since the previous snapshot. What is kept is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum IncrementalMode {
    /// Where it is possible; a full backup otherwise, and the result says why.
    Auto,
    /// A full backup.
    #[default]
    Never,
    /// Refused where it is not possible.
    Require,
}

/// The snapshot that an incremental backup builds on.
pub(super) struct Basis {
    pub(super) id: Uuid,
    pub(super) start_lsn: Lsn,
    pub(super) timeline: TimelineId,
    pub(super) files: FileLookup,
    pub(super) extents: ExtentReader,
    /// What the server was not offered to build on.
    pub(super) read_whole: TruncatedRelations,
    system_identifier: SystemIdentifier,
    manifest: FileEntry,
}

/// Finds the snapshot to build on.
///
/// # Errors
/// [`EngineError::Refused`] with the reason when there is none, or this server cannot do it.
pub(super) async fn find_basis(
    engine: &Engine,
    cluster: &Cluster,
    repository: &Repository,
    connection: &mut Connection,
    reporter: &Reporter,
) -> Result<Basis> {
    let version = connection.facts().version;
    if !version.traits().is_some_and(|traits| traits.incremental) {
        return Err(EngineError::refused(
            "incremental_unsupported",
            format!("PostgreSQL {version} cannot take incremental backups; 17 and later can"),
            "Take a full backup: content that did not change is not stored again.",
        ));
    }
    if connection.show("summarize_wal").await? != "on" {
        return Err(summarizing_is_off());
    }
    if !repository.can_read() {
        return Err(EngineError::refused(
            "incremental_needs_reading",
            "this machine may only add to the repository, and an incremental backup reads the previous one",
            "Open the repository with a passphrase or a recovery key, or take a full backup.",
        ));
    }
    let snapshot = candidate(engine, cluster, repository, connection).await?;
    let extents = repository.extent_reader().await?;
    reporter.phase(
        "reading the previous snapshot's files",
        Some("files"),
        Some(snapshot.file_table.entries),
    );
    let table = repository.read_file_table(&snapshot.file_table).await?;
    if !table.has_extent_checksums() {
        return Err(unusable(
            &snapshot,
            "it was written by a version that kept no checksums of extents",
        ));
    }
    let mut lost = None;
    let files = repository
        .look_up_files(&snapshot.file_table, |entry| {
            if lost.is_none() && !entry.extents.iter().all(|id| extents.holds(id)) {
                lost = Some(entry.path.clone());
            }
            entry.kind == EntryKind::File
        })
        .await;
    let mut files = match files {
        Ok(files) => files,
        Err(error @ holdfast_repository::RepositoryError::Corrupt { .. }) => {
            return Err(unusable(&snapshot, &error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(path) = lost {
        return Err(unusable(
            &snapshot,
            &format!("content of {path} is missing in the repository"),
        ));
    }
    let Some(manifest) = files.get("backup_manifest").await? else {
        return Err(unusable(&snapshot, "its manifest is not there"));
    };
    Ok(Basis {
        id: snapshot.id,
        start_lsn: snapshot.start_lsn,
        timeline: snapshot.timeline,
        files,
        extents,
        read_whole: TruncatedRelations::default(),
        system_identifier: snapshot.system_identifier,
        manifest,
    })
}

/// The newest snapshot that may be built on.
async fn candidate(
    engine: &Engine,
    cluster: &Cluster,
    repository: &Repository,
    connection: &mut Connection,
) -> Result<Snapshot> {
    let major = connection.facts().version.major();
    let mut snapshots = before::snapshots(engine, cluster, repository).await?;
    snapshots.retain(|snapshot| snapshot.server_version.major() == major);
    if snapshots.is_empty() {
        return Err(EngineError::refused(
            "no_previous_snapshot",
            format!("there is no snapshot of \"{}\" in this repository to build on", cluster.name),
            format!("Take a full backup first: holdfast backup {}", cluster.name),
        ));
    }
    let current = connection.identify_system().await?.timeline;
    let history = if current == TimelineId::FIRST {
        TimelineHistory::root(current)
    } else {
        let (_, content) = connection.timeline_history(current).await?;
        TimelineHistory::parse(current, &content)
            .map_err(|e| EngineError::Fault(format!("the history of timeline {current}: {e}")))?
    };
    let mut reason = None;
    for snapshot in snapshots {
        let refusal = if snapshot.page_findings_total > 0 {
            unusable(&snapshot, "it holds damaged pages")
        } else if !history.is_ancestor(snapshot.timeline)
            || history.end_of(snapshot.timeline).is_some_and(|end| end < snapshot.stop_lsn)
        {
            EngineError::refused(
                "previous_snapshot_on_other_timeline",
                format!(
                    "snapshot {} was taken on timeline {}, which this server on timeline {current} does not come from",
                    snapshot.id, snapshot.timeline
                ),
                "Take a full backup; the next one can be incremental.",
            )
        } else if !repository.is_vouched_for(&snapshot.path(), ObjectKind::Snapshot).await? {
            unusable(&snapshot, "an agent has written it, and nobody builds on an agent's word")
        } else {
            return Ok(snapshot);
        };
        reason.get_or_insert(refusal);
    }
    Err(reason.unwrap_or_else(|| EngineError::Fault("no candidate and no reason".to_owned())))
}

impl Basis {
    /// Its manifest without the files that are to be read whole, piece by piece.
    pub(super) fn manifest(&self) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let offer = ManifestOffer {
            extents: self.extents.clone(),
            left: self.manifest.extents.clone().into(),
            filter: Some(ManifestFilter {
                reader: ManifestReader::new(),
                writer: ManifestWriter::new(MANIFEST_VERSION, Some(self.system_identifier)),
                read_whole: self.read_whole.clone(),
            }),
        };
        futures_util::stream::try_unfold(offer, async |mut offer| {
            Ok(offer.next().await?.map(|piece| (piece, offer)))
        })
    }

    /// The label of a backup must name this snapshot as what it is incremental to.
    pub(super) fn require_named(&self, from: Option<(Lsn, TimelineId)>) -> Result<()> {
        if from == Some((self.start_lsn, self.timeline)) {
            return Ok(());
        }
        Err(EngineError::integrity(
            "incremental_to_another",
            format!(
                "the server's backup is incremental to {}, and snapshot {} begins at {} on timeline {}",
                from.map_or_else(
                    || "nothing".to_owned(),
                    |(lsn, timeline)| format!("{lsn} on timeline {timeline}")
                ),
                self.id,
                self.start_lsn,
                self.timeline
            ),
            "Nothing of this backup was kept. Take a full one: holdfast backup NAME --incremental never",
        ))
    }
}

/// A manifest on its way from the repository to a server.
struct ManifestOffer {
    extents: ExtentReader,
    left: VecDeque<ExtentId>,
    /// Gone once the manifest is whole.
    filter: Option<ManifestFilter>,
}

/// Writes a manifest anew as it is read, without some of its files.
struct ManifestFilter {
    reader: ManifestReader,
    writer: ManifestWriter,
    read_whole: TruncatedRelations,
}

impl ManifestOffer {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(mut filter) = self.filter.take() else { return Ok(None) };
        let count = self.left.len().min(MANIFEST_EXTENTS);
        let next: Vec<_> = self.left.drain(..count).collect();
        let read = self.extents.read(&next).await.map_err(io::Error::other)?;
        let last = self.left.is_empty();
        let filtered = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            for piece in read {
                text.append(&mut filter.push(&piece)?);
            }
            if last {
                text.append(&mut filter.finish()?);
                return Ok((text, None));
            }
            Ok::<_, ManifestError>((text, Some(filter)))
        });
        let (text, filter) = filtered.await?.map_err(io::Error::other)?;
        self.filter = filter;
        Ok(Some(text.into()))
    }
}

impl ManifestFilter {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ManifestError> {
        self.reader.push(bytes, &mut |file| {
            if !file.path.as_str().is_some_and(|path| self.read_whole.own(path)) {
                self.writer.file(&file);
            }
        })?;
        Ok(self.writer.take())
    }

    fn finish(self) -> Result<Vec<u8>, ManifestError> {
        let summary = self.reader.finish()?;
        Ok(self.writer.finish(&summary.wal_ranges))
    }
}

fn unusable(snapshot: &Snapshot, why: &str) -> EngineError {
    EngineError::refused(
        "previous_snapshot_unusable",
        format!("nothing can be built on snapshot {}: {why}", snapshot.id),
        "Take a full backup; the next one can be incremental.",
    )
}

fn summarizing_is_off() -> EngineError {
    EngineError::refused(
        "wal_summaries_off",
        "summarize_wal is off: the server does not know what changed since the previous backup",
        SUMMARIZE,
    )
}

/// What the server has against an incremental backup (`basebackup_incremental.c`), as a refusal; other
/// errors as they are. Messages may be translated, the SQLSTATE and the function's name are not.
pub(super) fn refusal(error: WireError) -> EngineError {
    let WireError::Server(server) = &error else { return error.into() };
    if server.sqlstate != "55000" && server.routine.as_deref() != Some("manifest_report_error") {
        return error.into();
    }
    let (code, hint) = meaning(server);
    let mut message = server.message.clone();
    if let Some(detail) = &server.detail {
        message = format!("{message} ({detail})");
    }
    EngineError::refused(code, format!("the server takes no incremental backup: {message}"), hint)
}

fn meaning(server: &ServerError) -> (&'static str, &'static str) {
    let says = |text: &str| server.message.contains(text);
    if server.routine.as_deref() == Some("WaitForWalSummarization") || says("not progressing") {
        (
            "wal_summaries_stuck",
            "Look for the process \"walsummarizer\" and for its errors in the server's log, or take a full backup.",
        )
    } else if says("WAL summaries are required") {
        (
            "wal_summaries_missing",
            "Take a full backup: the server does not know what changed since the previous one. Summaries are kept for \
             wal_summary_keep_time (10 days unless set otherwise); none are written while summarize_wal is off or wal_level \
             is minimal; a standby has none of the time before it was made; and a server that was promoted at the start of a \
             WAL page, as after pg_switch_wal(), lacks the one that begins there.",
        )
    } else if says("unless WAL summarization is enabled") {
        ("wal_summaries_off", SUMMARIZE)
    } else if says("this server's history")
        || says("initial timeline")
        || says("non-final timeline")
    {
        (
            "previous_snapshot_on_other_timeline",
            "The server does not come from where the previous snapshot was taken. Take a full backup.",
        )
    } else if says("final timeline") {
        (
            "standby_too_quiet",
            "A standby begins a backup at its last restartpoint, which lies before the previous backup's end. Wait until the \
             primary has made a checkpoint and the standby a restartpoint, or take a full backup.",
        )
    } else {
        ("incremental_refused", "Take a full backup; the next one can be incremental.")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use holdfast_postgres::{BackupManifest, ManifestFile, ManifestPath, WalRange};

    use super::*;

    #[test]
    fn truncated_relations_are_not_offered_to_build_on() {
        let file = |path: &str| ManifestFile {
            path: ManifestPath::new(path.as_bytes().to_vec()).unwrap(),
            size: 8192,
            last_modified: "2026-03-01 10:11:12 GMT".to_owned(),
            checksum: None,
        };
        let ranges = [WalRange { timeline: TimelineId::FIRST, start: Lsn(0x28), end: Lsn(0x100) }];
        let system = "7300000000000000001".parse().unwrap();
        let mut writer = ManifestWriter::new(MANIFEST_VERSION, Some(system));
        for path in ["base/5/16384", "base/5/16384.1", "base/5/16390", "PG_VERSION"] {
            writer.file(&file(path));
        }
        let manifest = writer.finish(&ranges);
        let mut filter = ManifestFilter {
            reader: ManifestReader::new(),
            writer: ManifestWriter::new(MANIFEST_VERSION, Some(system)),
            read_whole: TruncatedRelations::of([16384]),
        };
        let mut offered = Vec::new();
        for piece in manifest.chunks(100) {
            offered.append(&mut filter.push(piece).unwrap());
        }
        offered.append(&mut filter.finish().unwrap());
        let offered = BackupManifest::parse(&offered).unwrap();
        assert_eq!(offered.files, [file("base/5/16390"), file("PG_VERSION")]);
        assert_eq!(offered.wal_ranges, ranges);
        assert_eq!(offered.system_identifier, Some(system));
    }

    fn code(sqlstate: &str, message: &str, routine: &str) -> String {
        let server = ServerError {
            severity: "ERROR".to_owned(),
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            routine: Some(routine.to_owned()),
            ..ServerError::default()
        };
        refusal(WireError::from(server)).to_object().code
    }

    #[test]
    fn every_error_of_the_server_has_its_code() {
        let prepare = |message: &str| code("55000", message, "PrepareForIncrementalBackup");
        let required = "WAL summaries are required on timeline 1 from 0/2 to 0/3, but";
        for end in [
            "no summaries for that timeline and LSN range exist",
            "the summaries for that timeline and LSN range are incomplete",
        ] {
            assert_eq!(prepare(&format!("{required} {end}")), "wal_summaries_missing");
        }
        assert_eq!(
            prepare("timeline 2 found in manifest, but not in this server's history"),
            "previous_snapshot_on_other_timeline"
        );
        assert_eq!(
            prepare(
                "manifest requires WAL from initial timeline 1 starting at 0/1, but that timeline begins at 0/2"
            ),
            "previous_snapshot_on_other_timeline"
        );
        assert_eq!(
            prepare(
                "manifest requires WAL from final timeline 1 ending at 0/3, but this backup starts at 0/2"
            ),
            "standby_too_quiet"
        );
        assert_eq!(
            prepare(
                "manifest requires WAL from non-final timeline 1 ending at 0/3, but this server switched timelines at 0/2"
            ),
            "previous_snapshot_on_other_timeline"
        );
        assert_eq!(prepare("manifest contains no required WAL ranges"), "incremental_refused");
        let off = "incremental backups cannot be taken unless WAL summarization is enabled";
        assert_eq!(code("55000", off, "parse_basebackup_options"), "wal_summaries_off");
        let stuck = "WAL-Zusammenfassung kommt nicht voran";
        assert_eq!(code("55000", stuck, "WaitForWalSummarization"), "wal_summaries_stuck");
        assert_eq!(
            code("XX000", "could not parse backup manifest: x", "manifest_report_error"),
            "incremental_refused"
        );
        let other = ServerError { sqlstate: "53300".to_owned(), ..ServerError::default() };
        assert!(matches!(refusal(WireError::from(other)), EngineError::Wire(_)));
    }
}
