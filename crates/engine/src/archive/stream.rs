//! Streams WAL from the server into the repository.
//!
//! The flush position that the server is told is what is durable, never more: in the store, or in the
//! spool when that was asked for. Reading starts at the start of the first segment that is not whole in
//! the repository, whatever the slot says: what was archived of that segment before is compared as it
//! passes.

use std::time::Duration;

use holdfast_postgres::{Lsn, TimelineId};
use holdfast_repository::Repository;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger::{self, GapCause};
use super::synchronous::Membership;
use super::{ArchiveOptions, Gap, Leg};
use crate::Engine;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::Reporter;

/// How long a server or a store that was reached before may stay away until the job fails.
const AWAY_LIMIT: Duration = Duration::from_mins(5);

/// How far the archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frontier {
    /// The timeline being streamed; none before the stream began.
    pub timeline: Option<TimelineId>,
    /// Where the stream of this run began.
    pub started_at: Lsn,
    /// Everything below is received.
    pub received: Lsn,
    /// Everything below is durable: in the store, or in the spool when that counts.
    pub durable: Lsn,
    /// Everything below is in the store.
    pub stored: Lsn,
    /// How far the server has written.
    pub server: Lsn,
}

/// What a run of the archiver did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streamed {
    pub(crate) frontier: Frontier,
    /// Whole segments that went out.
    pub(crate) segments: u64,
    /// Gaps that were noted.
    pub(crate) gaps: Vec<Gap>,
}

/// One run of the archiver for one cluster.
pub(crate) struct ArchiveStream {
    pub(super) engine: Engine,
    pub(super) cluster: Cluster,
    pub(super) repository: Repository,
    pub(super) options: ArchiveOptions,
    pub(super) reporter: Option<Reporter>,
    /// Whether phases and numbers are reported, not only what somebody has to know.
    progress: bool,
    pub(super) cancel: CancellationToken,
    pub(super) frontier: watch::Sender<Frontier>,
    pub(super) segments: u64,
    pub(super) gaps: watch::Sender<Vec<Gap>>,
    /// We have dropped the slot: the next session makes a new one and begins with it.
    pub(super) dropped: bool,
    /// The server's own way, from its first timeline to the one it is on, as the session found it.
    pub(super) way: Vec<Leg>,
    pub(super) told_membership: Option<Membership>,
}

/// Whether it is worth trying again.
fn is_transient(error: &EngineError) -> bool {
    match error {
        EngineError::Wire(error) => error.retryable(),
        EngineError::Repository(error) => error.retryable(),
        EngineError::Refused { code, .. } => *code == STALLED,
        _ => false,
    }
}

/// The code of the error with which a stream is left whose WAL does not become durable.
const STALLED: &str = "durability_stalled";

pub(super) fn stalled(at: Lsn, limit: Duration) -> EngineError {
    EngineError::refused(
        STALLED,
        format!("nothing beyond {at} has become durable for {} s", limit.as_secs_f64()),
        "The stream was left, so that neither commits nor the server's shutdown wait for it. Look at the store; the \
         archive goes on when it answers.",
    )
}

impl ArchiveStream {
    pub(crate) fn new(
        engine: Engine,
        cluster: Cluster,
        repository: Repository,
        options: ArchiveOptions,
        reporter: Option<Reporter>,
        cancel: CancellationToken,
    ) -> (Self, watch::Receiver<Frontier>) {
        let (frontier, watched) = watch::channel(Frontier::default());
        let stream = Self {
            engine,
            cluster,
            repository,
            options,
            reporter,
            progress: true,
            cancel,
            frontier,
            segments: 0,
            gaps: watch::channel(Vec::new()).0,
            dropped: false,
            way: Vec::new(),
            told_membership: None,
        };
        (stream, watched)
    }

    /// Only what somebody has to know is reported: the phases are another one's.
    pub(crate) fn quiet(mut self) -> Self {
        self.progress = false;
        self
    }

    /// The gaps that this run has noted so far.
    pub(crate) fn gaps(&self) -> watch::Receiver<Vec<Gap>> {
        self.gaps.subscribe()
    }

    /// Streams until cancelled or until the asked position is durable.
    ///
    /// A server or store that goes away is tried again; one that was never reached is an error at once.
    pub(crate) async fn run(mut self) -> Result<Streamed> {
        let mut away_since: Option<Instant> = None;
        let mut wait = Duration::from_millis(500);
        loop {
            let before = *self.frontier.borrow();
            let error = match self.session().await {
                Ok(()) => break,
                Err(error) => error,
            };
            if let EngineError::Integrity { code: "wal_differs" | "timeline_differs", .. } = &error
            {
                self.note_foreign_stream().await;
            }
            let reached_before =
                before.timeline.is_some() || self.frontier.borrow().timeline.is_some();
            if *self.frontier.borrow() != before {
                away_since = None;
                wait = Duration::from_millis(500);
            }
            let away = *away_since.get_or_insert_with(Instant::now);
            if !is_transient(&error) || !reached_before || away.elapsed() > AWAY_LIMIT {
                return Err(error);
            }
            let object = error.to_object();
            if object.code == STALLED {
                self.alert(STALLED, format!("{}: the stream was left", object.message));
            }
            self.warn(format!("{}; trying again in {} s", object.message, wait.as_secs().max(1)));
            tokio::select! {
                () = self.cancel.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(Duration::from_secs(30));
        }
        let gaps = self.gaps.borrow().clone();
        Ok(Streamed { frontier: *self.frontier.borrow(), segments: self.segments, gaps })
    }

    pub(super) fn warn(&self, message: String) {
        if let Some(reporter) = &self.reporter {
            reporter.warning(message);
        } else {
            tracing::warn!(cluster = %self.cluster.name, "{message}");
        }
    }

    /// Tells what somebody has to act on.
    pub(super) fn alert(&self, code: &'static str, message: String) {
        if let Some(reporter) = &self.reporter {
            reporter.alert(code, message);
        } else {
            tracing::error!(cluster = %self.cluster.name, code, "{message}");
        }
    }

    pub(super) fn progress(&self) -> Option<&Reporter> {
        self.reporter.as_ref().filter(|_| self.progress)
    }

    async fn note_foreign_stream(&self) {
        let noted = async {
            let view = self.view().await?;
            let system = self.cluster.system_identifier.to_string();
            let version = self.cluster.server_version.to_string();
            let cause = GapCause::ForeignStream;
            ledger::record_change(&self.repository, &view, cause, system, version).await
        }
        .await;
        if let Err(error) = noted {
            tracing::warn!(%error, "the foreign stream was not noted in the ledger");
        }
        self.alert(
            "foreign_stream",
            "the server sends other WAL than what is archived under the same name: nothing is archived any more"
                .to_owned(),
        );
    }
}
