//! The WAL archive: WAL streamed into the repository, and what can be read back from it.
//!
//! Paths: `wal/<system>/<timeline>/<segment>` holds a whole segment, `….partial` the tail of a
//! timeline that ended, `slices/<system>/<timeline>/<segment>/<from>-<to>` a part of a segment
//! that is still being written, `history/<system>/<timeline>.history` a timeline's ancestry,
//! `coverage/<system>/…` a gap, `coverage/<system>/changes/…` that another system answers now,
//! `coverage/<system>/retired/…` WAL that was removed since nothing kept it any more.

mod archived;
mod begin;
mod files;
mod index;
pub(crate) mod ledger;
pub(crate) mod markers;
mod open_segment;
mod receive;
pub(crate) mod safety;
mod session;
mod spool;
mod stream;
mod synchronous;
mod upload;
mod view;

use std::time::Duration;

use holdfast_postgres::{
    Lsn, SegmentNo, SystemIdentifier, TimelineId, WalFileName, WalSegmentSize,
};
use serde::{Deserialize, Serialize};

pub use files::{WalFiles, WalSpool};
pub use index::{NamedPoint, SegmentIndex, TransactionEnd, TransactionKind};
pub use ledger::{Gap, GapCause, NeedsSnapshot, NeedsSnapshotReason, Retired, SystemChange};
pub use markers::{MANY_ROWS, MarkedChange, MarkerKind, SegmentMarkers, TransactionMarker};
pub use safety::{SlotCost, SlotState};
pub use stream::Frontier;
pub(crate) use stream::{ArchiveStream, Streamed};
pub use view::{ArchiveView, Leg, Piece, PointEvent, StoredSegment};

/// How long a stream that was asked to stop may take to store what it has received.
const STOP_WITHIN: Duration = Duration::from_secs(6);

/// A slice of the open segment is stored at the latest this long after its first byte arrived.
const SLICE_AFTER: Duration = Duration::from_secs(2);
/// How long commits may wait for WAL to become durable before the stream is left.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// What to stream, and what counts as done.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// Stop once WAL up to here is durable; otherwise when cancelled.
    pub once_to: Option<Lsn>,
    /// A slice of the open segment is stored at the latest this long after its first byte arrived.
    pub slice_after: Duration,
    /// Take part in `synchronous_standby_names`.
    pub synchronous: Option<Synchronous>,
    /// What is acknowledged to the server as flushed.
    pub durability: Durability,
    /// The stream is left when nothing became durable for so long although something should have.
    /// Without one it waits for as long as the store does.
    pub stall_limit: Option<Duration>,
    /// Take a backup when a gap was noted.
    pub backup_on_gap: bool,
    /// Give the slot up when it holds back more bytes than this: a gap and a new backup are better than
    /// a server whose disk is full.
    pub drop_slot_after: Option<u64>,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self {
            once_to: None,
            slice_after: SLICE_AFTER,
            synchronous: None,
            durability: Durability::Store,
            stall_limit: None,
            backup_on_gap: false,
            drop_slot_after: None,
        }
    }
}

impl ArchiveOptions {
    /// As a synchronous standby: replies as soon as something is durable, and leaves rather than let
    /// commits hang.
    #[must_use]
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = Some(synchronous);
        self.stall_limit.get_or_insert(STALL_LIMIT);
        self
    }
}

/// How the archive takes part in `synchronous_standby_names`.
#[derive(Debug, Clone, Default)]
pub struct Synchronous {
    /// Its name there; none for `holdfast_` and the cluster's name.
    pub application_name: Option<String>,
    /// Become a member even when commits wait for nobody else.
    pub arm_sole_member: bool,
    /// Report WAL as applied as soon as it is durable, so that `synchronous_commit = remote_apply` does
    /// not wait for ever. Nothing is applied.
    pub report_apply: bool,
}

/// What is acknowledged to the server as flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// What the store has confirmed. Nothing acknowledged is lost with this machine.
    #[default]
    Store,
    /// What a local spool holds, synced. What the store does not have yet is lost when this machine's
    /// disk is.
    Spool,
}

/// What a run of the archiver did.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ArchiveResult {
    /// The job.
    pub job: String,
    /// Everything below is durable, as `durability` says.
    #[ts(type = "string")]
    pub durable_lsn: Lsn,
    /// Everything below is in the store.
    #[ts(type = "string")]
    pub stored_lsn: Lsn,
    /// What counted as durable.
    pub durability: Durability,
    /// The timeline it is on.
    pub timeline: u32,
    /// Whole segments stored by this run.
    #[ts(type = "number")]
    pub segments: u64,
    /// Gaps that this run has noted.
    pub gaps: Vec<Gap>,
    /// Why a new backup is needed now; null when it is not.
    pub needs_snapshot: Option<NeedsSnapshot>,
    /// The backup that was taken because of a gap.
    pub backup: Option<String>,
}

/// Where whole segments and tails of timelines are, by system and timeline.
pub(crate) const WAL_FOLDER: &str = "wal/";
/// Where parts of open segments are, in the same order, below the segment's name.
pub(crate) const SLICES_FOLDER: &str = "slices/";

pub(crate) fn wal_prefix(system: SystemIdentifier) -> String {
    format!("{WAL_FOLDER}{system}/")
}

pub(crate) fn slices_prefix(system: SystemIdentifier) -> String {
    format!("{SLICES_FOLDER}{system}/")
}

pub(crate) fn history_prefix(system: SystemIdentifier) -> String {
    format!("history/{system}/")
}

pub(crate) fn coverage_prefix(system: SystemIdentifier) -> String {
    format!("coverage/{system}/")
}

pub(crate) fn segment_path(
    system: SystemIdentifier,
    timeline: TimelineId,
    segment: SegmentNo,
    size: WalSegmentSize,
) -> String {
    format!(
        "{}{:08X}/{}",
        wal_prefix(system),
        timeline.get(),
        WalFileName { timeline, segment }.render(size)
    )
}

pub(crate) fn slice_directory(
    system: SystemIdentifier,
    timeline: TimelineId,
    segment: SegmentNo,
    size: WalSegmentSize,
) -> String {
    format!(
        "{}{:08X}/{}/",
        slices_prefix(system),
        timeline.get(),
        WalFileName { timeline, segment }.render(size)
    )
}

impl crate::Engine {
    /// Streams a cluster's WAL into its repository until cancelled, or until `options.once_to` is durable.
    ///
    /// # Errors
    /// When the server cannot be reached or used, or the store cannot be written.
    pub async fn archive(
        &self,
        name: &str,
        options: ArchiveOptions,
        cancel: tokio_util::sync::CancellationToken,
    ) -> crate::Result<ArchiveResult> {
        let cluster = self.cluster(name).await?;
        let engine = self.clone();
        self.run_job(
            crate::jobs::JobKind::Archive,
            Some(name),
            format!("Archive WAL of {name}"),
            cancel,
            |job| async move { engine.archive_in(job, cluster, options).await },
        )
        .await
    }

    /// The same in the background.
    ///
    /// # Errors
    /// When the job cannot be recorded, or the cluster is being archived by this process already.
    pub async fn start_archive(&self, name: &str) -> crate::Result<crate::jobs::JobId> {
        let cluster = self.cluster(name).await?;
        let running = self.jobs().await?.into_iter().any(|j| {
            j.kind == crate::jobs::JobKind::Archive
                && j.state == crate::jobs::JobState::Running
                && j.cluster.as_deref() == Some(name)
        });
        if running {
            return Err(crate::EngineError::refused(
                "already_archiving",
                format!("the WAL of \"{name}\" is being archived already"),
                "Look at the running job; one stream at a time is enough.",
            ));
        }
        let engine = self.clone();
        self.start_job(
            crate::jobs::JobKind::Archive,
            Some(name),
            format!("Archive WAL of {name}"),
            |job| async move { engine.archive_in(job, cluster, ArchiveOptions::default()).await },
        )
        .await
    }

    async fn archive_in(
        &self,
        job: crate::jobs::JobContext,
        cluster: crate::cluster::Cluster,
        options: ArchiveOptions,
    ) -> crate::Result<ArchiveResult> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        job.reporter.phase("connecting", None, None);
        let (stream, _watch) = ArchiveStream::new(
            self.clone(),
            cluster.clone(),
            repository.clone(),
            options.clone(),
            Some(job.reporter.clone()),
            job.cancel.clone(),
        );
        let gaps = stream.gaps();
        // Asked to stop, the stream still brings its last slice to the store; a store or server that does
        // not answer must not hold it up. Nothing was acknowledged that is not durable.
        let overdue = async {
            job.cancel.cancelled().await;
            tokio::time::sleep(STOP_WITHIN).await;
        };
        // A backup uses the WAL that this stream archives beside it; one that ends by itself does so
        // before the backup would, which then streams its own.
        let beside = async {
            if !options.backup_on_gap || options.once_to.is_some() {
                return std::future::pending().await;
            }
            self.backup_at_gaps(&job, &cluster, gaps).await
        };
        let streamed = tokio::select! {
            streamed = stream.run() => streamed?,
            () = overdue => return Err(crate::EngineError::Cancelled),
            error = beside => return Err(error),
        };
        let frontier = streamed.frontier;
        if options.once_to.is_some_and(|to| frontier.durable < to) {
            return Err(crate::EngineError::Cancelled);
        }
        let mut backup = None;
        if options.backup_on_gap && options.once_to.is_some() && !streamed.gaps.is_empty() {
            backup = Some(self.backup_for_gap(&job, &cluster).await?);
        }
        let view = ArchiveView::load(
            self.catalog(),
            &repository,
            cluster.system_identifier,
            cluster.segment_size,
        )
        .await?;
        let snapshots = crate::snapshot::list(self.catalog(), &repository, &cluster).await?;
        let spans: Vec<_> = snapshots.iter().map(|(s, _)| ledger::SnapshotSpan::from(s)).collect();
        let needs_snapshot = ledger::needs_snapshot(&view, &spans);
        if let Some(needs) = &needs_snapshot {
            job.reporter.warning(format!("a new backup is needed: {}", needs.message));
        }
        Ok(ArchiveResult {
            job: job.id.to_string(),
            durable_lsn: frontier.durable,
            stored_lsn: frontier.stored,
            durability: options.durability,
            timeline: frontier.timeline.map_or(0, TimelineId::get),
            segments: streamed.segments,
            gaps: streamed.gaps,
            needs_snapshot,
            backup,
        })
    }

    /// Takes a backup whenever a gap was noted; ends only with an error that is no backup's.
    async fn backup_at_gaps(
        &self,
        job: &crate::jobs::JobContext,
        cluster: &crate::cluster::Cluster,
        mut gaps: tokio::sync::watch::Receiver<Vec<Gap>>,
    ) -> crate::EngineError {
        while gaps.changed().await.is_ok() {
            // A backup that fails is told, and tried again at the next gap: the archive goes on.
            match self.backup_for_gap(job, cluster).await {
                Ok(_) => {}
                Err(crate::EngineError::Cancelled) => return crate::EngineError::Cancelled,
                Err(error) => job.reporter.alert(
                    "backup_on_gap_failed",
                    format!("the backup after a gap failed: {}", error.to_object().message),
                ),
            }
        }
        std::future::pending().await
    }

    async fn backup_for_gap(
        &self,
        job: &crate::jobs::JobContext,
        cluster: &crate::cluster::Cluster,
    ) -> crate::Result<String> {
        job.reporter.log("taking a backup, because WAL was lost");
        let options = crate::backup::BackupOptions {
            reason: Some("after a gap in the WAL archive".to_owned()),
            ..crate::backup::BackupOptions::default()
        };
        // Type-erased: a backup has an archive stream inside.
        let backup = Box::pin(self.backup(&cluster.name, options, job.cancel.clone()));
        let taken = backup.await?;
        job.reporter.log(format!("snapshot {} is complete", taken.snapshot.id));
        Ok(taken.snapshot.id)
    }
}
