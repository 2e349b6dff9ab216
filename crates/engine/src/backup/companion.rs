//! The WAL stream that goes with a backup.
//!
//! A backup without its WAL is worth nothing, so the stream begins before it. When another process
//! archives this cluster already, its frontier in the repository is watched instead.

use std::time::Duration;

use holdfast_postgres::{Lsn, TimelineId};
use holdfast_repository::Repository;
use holdfast_wire::WireError;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Engine;
use crate::archive::{ArchiveOptions, ArchiveStream, ArchiveView, Frontier, Streamed};
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::Reporter;

/// How long the WAL up to the end of a backup may take to become durable without any progress.
const STALLED: Duration = Duration::from_mins(2);

pub(super) enum Companion {
    /// We stream.
    Own {
        task: JoinHandle<Result<Streamed>>,
        watch: watch::Receiver<Frontier>,
        cancel: CancellationToken,
        _guard: DropGuard,
    },
    /// Somebody else streams with our slot.
    Other { engine: Engine, cluster: Cluster, repository: Repository, from: Option<Lsn> },
}

impl Companion {
    pub(super) async fn start(
        engine: &Engine,
        cluster: &Cluster,
        repository: &Repository,
        reporter: &Reporter,
    ) -> Result<Self> {
        let cancel = CancellationToken::new();
        let (stream, mut watch) = ArchiveStream::new(
            engine.clone(),
            cluster.clone(),
            repository.clone(),
            ArchiveOptions::default(),
            Some(reporter.clone()),
            cancel.clone(),
        );
        let mut task = tokio::spawn(stream.quiet().run());
        let guard = cancel.clone().drop_guard();
        loop {
            if watch.borrow().timeline.is_some() {
                return Ok(Self::Own { task, watch, cancel, _guard: guard });
            }
            tokio::select! {
                _ = watch.changed() => {}
                ended = &mut task => {
                    let error = match ended {
                        Ok(Ok(_)) => EngineError::Fault("the WAL stream ended before it began".to_owned()),
                        Ok(Err(error)) => error,
                        Err(error) => EngineError::Fault(format!("the WAL stream failed: {error}")),
                    };
                    if !matches!(&error, EngineError::Wire(WireError::Server(e)) if e.sqlstate == "55006") {
                        return Err(error);
                    }
                    reporter.log("another process archives this cluster; its WAL is used");
                    let view = Self::archived(engine, cluster, repository).await?;
                    let from = view
                        .frontier()
                        .and_then(|(timeline, _)| view.runs(timeline).last().map(|run| run.0));
                    return Ok(Self::Other {
                        engine: engine.clone(),
                        cluster: cluster.clone(),
                        repository: repository.clone(),
                        from,
                    });
                }
            }
        }
    }

    async fn archived(
        engine: &Engine,
        cluster: &Cluster,
        repository: &Repository,
    ) -> Result<ArchiveView> {
        ArchiveView::load(
            engine.catalog(),
            repository,
            cluster.system_identifier,
            cluster.segment_size,
        )
        .await
    }

    /// The stream must have begun at or before the backup's first WAL.
    pub(super) fn require_start(&self, start: Lsn) -> Result<()> {
        let from = match self {
            Self::Own { watch, .. } => Some(watch.borrow().started_at),
            Self::Other { from, .. } => *from,
        };
        if from.is_none_or(|from| from <= start) {
            return Ok(());
        }
        Err(EngineError::refused(
            "stream_began_late",
            format!(
                "the WAL stream began at {} and the backup needs WAL from {start}",
                from.unwrap_or_default()
            ),
            "Run the backup again: the stream is there now.",
        ))
    }

    /// Waits until everything up to `lsn` is in the store.
    pub(super) async fn wait_durable(&mut self, lsn: Lsn) -> Result<()> {
        match self {
            Self::Own { watch, task, .. } => {
                let mut watch = watch.clone();
                loop {
                    if watch.borrow_and_update().durable >= lsn {
                        return Ok(());
                    }
                    let moved = tokio::time::timeout(STALLED, watch.changed()).await;
                    let at = watch.borrow().durable;
                    // Its sender is gone: so is the stream, and its own error says why.
                    if matches!(moved, Ok(Err(_))) && at < lsn {
                        task.await.map_err(|e| {
                            EngineError::Fault(format!("the WAL stream failed: {e}"))
                        })??;
                        return Err(EngineError::refused(
                            "wal_stream_ended",
                            format!(
                                "the WAL stream ended at {at} before the backup's end at {lsn}"
                            ),
                            "The backup was not kept. Look at the server's log, then run it again.",
                        ));
                    }
                    if moved.is_err() {
                        return Err(stalled(watch.borrow().durable, lsn));
                    }
                }
            }
            Self::Other { engine, cluster, repository, .. } => {
                let mut last = Lsn::INVALID;
                let mut moved = tokio::time::Instant::now();
                loop {
                    let view = Self::archived(engine, cluster, repository).await?;
                    let at = view.frontier().map_or(Lsn::INVALID, |(_, at)| at);
                    if at >= lsn {
                        return Ok(());
                    }
                    if at > last {
                        last = at;
                        moved = tokio::time::Instant::now();
                    }
                    if moved.elapsed() > STALLED {
                        return Err(stalled(at, lsn));
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    /// The repository must hold the backup's own WAL without a hole: a server that removes WAL faster
    /// than it is read lets the stream go on behind it.
    pub(super) async fn require_whole(
        engine: &Engine,
        cluster: &Cluster,
        repository: &Repository,
        timeline: TimelineId,
        start: Lsn,
        stop: Lsn,
    ) -> Result<()> {
        let view = Self::archived(engine, cluster, repository).await?;
        if view.runs(timeline).iter().any(|(from, to)| *from <= start && stop <= *to) {
            return Ok(());
        }
        Err(EngineError::refused(
            "wal_lost_during_backup",
            format!(
                "the server removed WAL between {start} and {stop}, which the backup needs, before it was archived"
            ),
            "The backup was not kept. Raise max_slot_wal_keep_size on the server (or set it to -1 for the time of the \
             backup), then run the backup again.",
        ))
    }

    /// Ends our stream in good order.
    pub(super) async fn stop(self) -> Result<()> {
        if let Self::Own { task, cancel, .. } = self {
            cancel.cancel();
            task.await.map_err(|e| EngineError::Fault(format!("the WAL stream failed: {e}")))??;
        }
        Ok(())
    }
}

fn stalled(at: Lsn, lsn: Lsn) -> EngineError {
    EngineError::refused(
        "wal_archive_stalled",
        format!(
            "WAL up to {at} is archived and nothing more has come for {} s; the backup needs it up to {lsn}",
            STALLED.as_secs()
        ),
        "The backup was not kept. Look at the archiver's job, then run the backup again.",
    )
}
