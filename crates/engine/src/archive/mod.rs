//! The WAL archive: WAL streamed into the repository, and what can be read back from it.
//!
//! Paths: `wal/<system>/<timeline>/<segment>` holds a whole segment, `….partial` the tail of a
//! timeline that ended, `slices/<system>/<timeline>/<segment>/<from>-<to>` a part of a segment
//! that is still being written, `history/<system>/<timeline>.history` a timeline's ancestry,
//! `coverage/<system>/…` a gap.

mod files;
mod index;
pub(crate) mod markers;
mod stream;
mod upload;
mod view;

use chrono::{DateTime, Utc};
use holdfast_postgres::{
    Lsn, SegmentNo, SystemIdentifier, TimelineId, WalFileName, WalSegmentSize,
};
use serde::{Deserialize, Serialize};

pub use files::{WalFiles, WalSpool};
pub use index::{NamedPoint, SegmentIndex, TransactionEnd, TransactionKind};
pub use markers::{MANY_ROWS, MarkedChange, MarkerKind, SegmentMarkers, TransactionMarker};
pub(crate) use stream::ArchiveStream;
pub use stream::{ArchiveOptions, ArchiveResult, Frontier};
pub use view::{ArchiveView, Leg, Piece, PointEvent, StoredSegment};

/// How long a stream that was asked to stop may take to store what it has received.
const STOP_WITHIN: std::time::Duration = std::time::Duration::from_secs(6);

/// WAL that was lost before it could be archived. Bounded by what is really there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Gap {
    /// The end of what was archived before.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// The start of what is archived after.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// On which timeline.
    #[ts(type = "number")]
    pub timeline: TimelineId,
    /// Why.
    pub cause: String,
    /// When it was noticed.
    #[ts(type = "string")]
    pub detected_at: DateTime<Utc>,
}

pub(crate) fn wal_prefix(system: SystemIdentifier) -> String {
    format!("wal/{system}/")
}

pub(crate) fn slices_prefix(system: SystemIdentifier) -> String {
    format!("slices/{system}/")
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

fn slice_directory(
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
        let streamed = async {
            let (_, repository) = self.repository_by_id(cluster.repository).await?;
            job.reporter.phase("connecting", None, None);
            let (stream, _watch) = ArchiveStream::new(
                self.clone(),
                cluster,
                repository,
                options.clone(),
                Some(job.reporter.clone()),
                job.cancel.clone(),
            );
            stream.run().await
        };
        // Asked to stop, the stream still brings its last slice to the store; a store or server that does
        // not answer must not hold it up. Nothing was acknowledged that is not stored.
        let overdue = async {
            job.cancel.cancelled().await;
            tokio::time::sleep(STOP_WITHIN).await;
        };
        let (frontier, segments) = tokio::select! {
            streamed = streamed => streamed?,
            () = overdue => return Err(crate::EngineError::Cancelled),
        };
        if options.once_to.is_some_and(|to| frontier.durable < to) {
            return Err(crate::EngineError::Cancelled);
        }
        Ok(ArchiveResult {
            job: job.id.to_string(),
            durable_lsn: frontier.durable,
            timeline: frontier.timeline.map_or(0, TimelineId::get),
            segments,
        })
    }
}
