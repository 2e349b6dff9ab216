//! Streams WAL from the server into the repository.
//!
//! The flush position that the server is told is what is durable, never more: in the store, or in the
//! spool when that was asked for. Reading starts at the start of the first segment that is not whole in
//! the repository, whatever the slot says: what was archived of that segment before is compared as it
//! passes.

use std::time::Duration;

use holdfast_postgres::{Lsn, TimelineId};
use holdfast_repository::Repository;
use holdfast_wire::{Connection, NextTimeline, StartedStream, WalMessage, WalStream, WireError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger::{self, GapCause};
use super::open_segment::{OpenSegment, Outgoing, Start, Way};
use super::safety::SlotWatch;
use super::spool::{Claim, Spool};
use super::synchronous::{self, Membership};
use super::upload::{self, Place, Upload};
use super::{ArchiveOptions, ArchiveView, Durability, Gap};
use crate::Engine;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::Reporter;

/// The server hears from us at least this often, however slow the store is.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How long a server or a store that was reached before may stay away until the job fails.
const AWAY_LIMIT: Duration = Duration::from_mins(5);
/// How long the store may take to tell what it holds, when somebody waits for the stream.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
/// Pieces that wait for the store behind the one that is on its way. Each may be a whole segment.
const BEHIND_AT_ONCE: usize = 2;
const BEHIND_SPOOL: usize = 6;

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
    reporter: Option<Reporter>,
    /// Whether phases and numbers are reported, not only what somebody has to know.
    progress: bool,
    cancel: CancellationToken,
    frontier: watch::Sender<Frontier>,
    segments: u64,
    gaps: watch::Sender<Vec<Gap>>,
    /// We have dropped the slot: the next session makes a new one and begins with it.
    pub(super) dropped: bool,
    told_membership: Option<Membership>,
}

/// How a session on one timeline ended.
enum Ended {
    Done,
    Timeline(Box<Connection>, NextTimeline),
    /// The slot holds so many bytes back, more than is allowed.
    SlotTooLarge(u64),
}

/// One end of a queue of pieces and what it has brought to its place.
struct Carrier {
    queue: mpsc::Sender<Upload>,
    durable: watch::Receiver<Lsn>,
    task: JoinHandle<Result<()>>,
}

impl Carrier {
    fn start(place: Place, begun: Lsn) -> Self {
        let (queue, uploads) = mpsc::channel(1);
        let (durable_to, durable) = watch::channel(begun);
        let task = tokio::spawn(upload::run(place, uploads, durable_to));
        Self { queue, durable, task }
    }

    /// Waits until everything that was handed over is where it belongs.
    async fn finish(self) -> Result<Lsn> {
        drop(self.queue);
        ended(self.task.await)?;
        Ok(*self.durable.borrow())
    }
}

fn ended(outcome: std::result::Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    outcome.unwrap_or_else(|error| Err(EngineError::Fault(format!("the uploader failed: {error}"))))
}

/// Stops the uploads of a stream that is left: what is on its way may still arrive, which does no harm.
struct Abandon(tokio::task::AbortHandle);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abort();
    }
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

fn stalled(at: Lsn, limit: Duration) -> EngineError {
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

    fn progress(&self) -> Option<&Reporter> {
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

    /// One connection's worth of streaming, across timelines.
    async fn session(&mut self) -> Result<()> {
        let spool = match self.options.durability {
            Durability::Store => None,
            Durability::Spool => Some(Spool::of(self.engine.home(), &self.cluster).await?),
        };
        // What a crash has left in a spool comes first, whether it is used now or not.
        let _claim = self.empty_spool(spool.as_ref()).await?;
        // The store is asked before the server is: a walsender that is not streaming yet holds nobody up,
        // but one that waits for a store that hangs might.
        let view = match self.options.stall_limit {
            Some(limit) => tokio::time::timeout(limit.max(LOOK_WITHIN), self.view())
                .await
                .unwrap_or_else(|_| Err(stalled(self.frontier.borrow().durable, limit)))?,
            None => self.view().await?,
        };
        let (mut connection, _) = self.connect().await?;
        let identity = connection.identify_system().await?;
        let slot = self.ensure_slot(&mut connection, &identity).await?;
        if identity.timeline.get() > 1 {
            self.keep_history(&mut connection, identity.timeline).await?;
        }
        self.warn_of_another_branch(&mut connection, &view, &identity).await?;
        let mut start = self.find_start(&mut connection, &view, slot, &identity).await?;
        if self.options.synchronous.is_some() {
            self.look_at_membership().await?;
        }
        self.seal_what_is_sliced(&view).await?;
        let mut gap_tried = false;
        loop {
            let (timeline, lsn) = (start.timeline, start.lsn);
            let started = match connection
                .start_physical(Some(&self.cluster.slot), lsn, timeline)
                .await
            {
                Ok(StartedStream::Streaming(stream)) => {
                    self.stream(stream, start, spool.as_ref()).await
                }
                Ok(StartedStream::AlreadyEnded { connection, next: Some(next) }) => {
                    Ok(Ended::Timeline(Box::new(connection), next))
                }
                Ok(StartedStream::AlreadyEnded { .. }) => Err(EngineError::Fault(format!(
                    "the server ended the stream of timeline {timeline} at {lsn} without naming the next"
                ))),
                Err(error) => Err(error.into()),
            };
            match started {
                Ok(Ended::Done) => return Ok(()),
                Ok(Ended::Timeline(next_connection, next)) => {
                    connection = *next_connection;
                    self.keep_history(&mut connection, next.timeline).await?;
                    start = self.start_on_next(next).await?;
                }
                Ok(Ended::SlotTooLarge(held)) => {
                    self.drop_slot(held).await?;
                    return Err(EngineError::Wire(WireError::Closed {
                        during: "streaming WAL, to drop the slot",
                        source: None,
                    }));
                }
                // The server does not have this WAL any more: that is a gap.
                Err(EngineError::Wire(WireError::WalRemoved { .. })) if !gap_tried => {
                    gap_tried = true;
                    (connection, _) = self.connect().await?;
                    let identity = connection.identify_system().await?;
                    let renewed = self.ensure_slot(&mut connection, &identity).await?;
                    let cause = renewed.made.or(slot.made).unwrap_or(
                        if slot.restart.is_some_and(|at| self.cluster.segment_size.floor(at) > lsn)
                        {
                            GapCause::SlotRecreated
                        } else {
                            GapCause::WalRemoved
                        },
                    );
                    let view = self.view().await?;
                    let at = renewed.restart.filter(|at| *at > lsn).unwrap_or(identity.flush_lsn);
                    start = self
                        .start_behind_gap(
                            &mut connection,
                            &view,
                            &identity,
                            (timeline, lsn),
                            at,
                            cause,
                        )
                        .await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Brings what a crash has left in the spool to the store. A spool that is to be used stays claimed.
    async fn empty_spool(&self, used: Option<&Spool>) -> Result<Option<Claim>> {
        let spool = match used {
            Some(spool) => spool.clone(),
            None => Spool::of(self.engine.home(), &self.cluster).await?,
        };
        if used.is_none() && !spool.exists() {
            return Ok(None);
        }
        let Some(claim) = spool.claim()? else {
            // Whoever has it looks after it.
            return match used {
                None => Ok(None),
                Some(_) => Err(EngineError::refused(
                    "already_archiving",
                    format!(
                        "another process archives \"{}\" through this machine's spool",
                        self.cluster.name
                    ),
                    "Look at the running job; one stream at a time is enough.",
                )),
            };
        };
        let brought = spool.replay(&self.repository, &self.cluster).await?;
        if brought > 0
            && let Some(reporter) = &self.reporter
        {
            reporter.log(format!("{brought} spooled pieces of WAL were brought to the store"));
        }
        Ok(used.is_some().then_some(claim))
    }

    /// A segment whose slices were acknowledged before the whole of it was stored is whole all the same:
    /// it is put together and stored as one.
    async fn seal_what_is_sliced(&self, view: &ArchiveView) -> Result<()> {
        let size = self.cluster.segment_size;
        for timeline in view.timelines() {
            let sliced: Vec<_> = view
                .segments(timeline)
                .filter(|(n, s)| !s.complete && s.pieces.len() > 1 && s.end() == size.end_of(*n))
                .map(|(n, _)| n)
                .collect();
            for segment in sliced {
                let lsn = size.start_of(segment);
                let mut start = self.start_at(timeline, lsn, Some(view)).await?;
                let bytes = std::mem::take(&mut start.archived);
                let mut out = Outgoing::default();
                OpenSegment::new(&self.cluster, start, Way::Plain).take(lsn, &bytes, &mut out)?;
                for upload in out.front {
                    upload::put(&self.repository, &upload).await?;
                    upload::remove_superfluous(&self.repository, upload.replaces).await;
                }
            }
        }
        Ok(())
    }

    /// Says once for each change whether commits wait for us, and refuses to become the only one they
    /// wait for unless that was asked for.
    async fn look_at_membership(&mut self) -> Result<()> {
        let Some(wanted) = &self.options.synchronous else { return Ok(()) };
        let name = self.application_name().unwrap_or_default();
        let armed = wanted.arm_sole_member;
        let mut sql = self.engine.connect_sql(&self.cluster).await?;
        let membership = Membership::look(&mut sql, &name).await?;
        sql.close().await;
        // Once it streams it is waited for: staying away then would be worse.
        let first = self.frontier.borrow().timeline.is_none();
        if membership == Membership::Sole && !armed && first {
            return Err(EngineError::refused(
                "sole_synchronous_member",
                format!(
                    "commits on \"{}\" would wait for this archive alone ({name}): when it stops, they hang",
                    self.cluster.name
                ),
                "Name another standby in synchronous_standby_names, for example ANY 1 (standby, archive); or say \
                 --arm-sole-member when a server that stands still is better than a commit that could be lost.",
            ));
        }
        if self.told_membership.replace(membership) != Some(membership) {
            match membership {
                Membership::NotListed => self.warn(format!(
                    "no commit waits for this archive yet: ALTER SYSTEM SET synchronous_standby_names = '{name}' (or with \
                     others, ANY 1 (…)); SELECT pg_reload_conf();"
                )),
                Membership::Sole => {
                    self.alert("sole_synchronous_member", synchronous::sole_sentence(&name));
                }
                Membership::OneOfSeveral => {}
            }
        }
        Ok(())
    }

    /// The name under which the server knows the stream; none for the one of the connection string.
    pub(super) fn application_name(&self) -> Option<String> {
        let wanted = self.options.synchronous.as_ref()?;
        Some(
            wanted
                .application_name
                .clone()
                .unwrap_or_else(|| synchronous::default_name(&self.cluster.name)),
        )
    }

    /// Streams one timeline to its end, to the asked position, or until cancelled.
    async fn stream(
        &mut self,
        mut stream: WalStream,
        mut start: Start,
        spool: Option<&Spool>,
    ) -> Result<Ended> {
        let begun = start.lsn.saturating_add(start.archived.len() as u64);
        let mut lost = std::mem::take(&mut start.lost);
        let (way, front, behind_limit) = match (spool, &self.options.synchronous) {
            (Some(spool), _) => {
                (Way::Spooled, Place::Spool(self.repository.clone(), spool.clone()), BEHIND_SPOOL)
            }
            (None, Some(_)) => {
                (Way::AtOnce, Place::Store(self.repository.clone(), None), BEHIND_AT_ONCE)
            }
            (None, None) => (Way::Plain, Place::Store(self.repository.clone(), None), 0),
        };
        let mut front = Carrier::start(front, begun);
        let mut back = Carrier::start(Place::Store(self.repository.clone(), spool.cloned()), begun);
        let _abandon = (Abandon(front.task.abort_handle()), Abandon(back.task.abort_handle()));
        let mut open = OpenSegment::new(&self.cluster, start, way);
        let at_once = way != Way::Plain;
        self.frontier.send_modify(|f| {
            f.timeline = Some(open.timeline);
            f.started_at = if f.started_at.is_valid() { f.started_at } else { open.position() };
            f.received = f.received.max(open.position());
            f.durable = f.durable.max(begun);
            f.stored = f.stored.max(begun);
        });
        if let Some(reporter) = self.progress() {
            reporter.phase("streaming", Some("bytes"), None);
            reporter.log(format!("streaming timeline {} from {}", open.timeline, open.position()));
        }
        let mut slot = SlotWatch::start(
            self.engine.clone(),
            self.cluster.clone(),
            self.reporter.clone(),
            self.options.drop_slot_after,
            self.application_name().zip(self.told_membership),
        );
        // One piece is with the uploader, one is received: nothing waits between them in front, since
        // each may be a whole segment.
        let mut out = Outgoing::default();
        let mut handed_to = begun;
        let mut status = tokio::time::interval(STATUS_EVERY);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping = false;
        let mut next_timeline = None;
        let mut timeline_over = false;
        // Before the server has shown that it still has WAL from the start on, it is told no flush
        // position: it would move the slot there, also back to WAL that it has removed.
        let mut has_streamed = false;
        // Since when something received is not durable, without progress.
        let mut behind: Option<(Lsn, Instant)> = None;
        let report_apply = self.options.synchronous.as_ref().is_some_and(|s| s.report_apply);
        // Applied stays unset unless it was asked for: an archive does not apply, and must not let
        // remote_apply believe that it does.
        let positions = |open: &OpenSegment, has_streamed: bool, durable: Lsn| {
            let flushed = flushed(has_streamed, durable);
            (open.position(), flushed, if report_apply { flushed } else { Lsn::INVALID })
        };
        loop {
            let done = *front.durable.borrow();
            let reached = self.options.once_to.is_some_and(|to| done >= to);
            if reached
                || (stopping && done >= open.position())
                || (timeline_over && out.front.is_empty())
            {
                break;
            }
            if at_once && !timeline_over && out.front.is_empty() && done >= handed_to {
                // While a whole segment is still to come, slices of it would be for nobody.
                let near = self.frontier.borrow().server.distance_from(open.position())
                    < self.cluster.segment_size.bytes();
                if near || self.slice_is_due(open.waiting_since().0) {
                    out.front.extend(open.front_slice());
                }
            }
            tokio::select! {
                biased;
                end = &mut front.task => {
                    return ended(end).and(Err(EngineError::Fault("the uploader ended early".to_owned())));
                }
                end = &mut back.task => {
                    return ended(end).and(Err(EngineError::Fault("the uploader ended early".to_owned())));
                }
                _ = front.durable.changed() => {
                    let at = *front.durable.borrow_and_update();
                    self.frontier.send_modify(|f| {
                        f.durable = f.durable.max(at);
                        if way != Way::Spooled {
                            f.stored = f.stored.max(at);
                        }
                    });
                    // A timeline that is over takes no status any more.
                    if !timeline_over {
                        let (written, flushed, applied) = positions(&open, has_streamed, at);
                        stream.send_status(written, flushed, applied, false).await?;
                    }
                }
                _ = back.durable.changed(), if way == Way::Spooled => {
                    let at = *back.durable.borrow_and_update();
                    self.frontier.send_modify(|f| f.stored = f.stored.max(at));
                }
                permit = front.queue.reserve(), if !out.front.is_empty() && done >= handed_to => {
                    if let (Ok(permit), Some(upload)) = (permit, out.front.pop_front()) {
                        handed_to = upload.durable_to;
                        permit.send(upload);
                    }
                }
                permit = back.queue.reserve(), if !out.back.is_empty() => {
                    if let (Ok(permit), Some(upload)) = (permit, out.back.pop_front()) {
                        permit.send(upload);
                    }
                }
                Ok(()) = slot.too_much.changed(), if !stopping => {
                    if let Some(held) = *slot.too_much.borrow_and_update() {
                        return Ok(Ended::SlotTooLarge(held));
                    }
                }
                _ = status.tick(), if !timeline_over => {
                    let (written, flushed, applied) = positions(&open, has_streamed, done);
                    stream.send_status(written, flushed, applied, false).await?;
                }
                () = self.cancel.cancelled(), if !stopping => {
                    stopping = true;
                    out.front.extend(open.front_slice());
                }
                _ = ticks.tick() => {
                    behind = match behind {
                        _ if open.position() <= done => None,
                        Some((at, since)) if at == done => Some((at, since)),
                        _ => Some((done, Instant::now())),
                    };
                    if let (Some((at, since)), Some(limit)) = (behind, self.options.stall_limit)
                        && since.elapsed() > limit
                    {
                        return Err(stalled(at, limit));
                    }
                    if out.front.is_empty() && !timeline_over {
                        let wanted = self.options.once_to.is_some_and(|to| open.position() >= to);
                        let (in_front, behind) = open.waiting_since();
                        if wanted || self.slice_is_due(in_front) {
                            out.front.extend(open.front_slice());
                        }
                        if out.back.is_empty() && self.slice_is_due(behind) {
                            out.back.extend(open.back_slice());
                        }
                    }
                }
                message = stream.next(),
                    if out.front.is_empty() && out.back.len() <= behind_limit && !stopping && !timeline_over =>
                {
                    match message? {
                        WalMessage::Data { start, server_end, bytes, .. } => {
                            if !has_streamed {
                                has_streamed = true;
                                // Now it is known that the stream goes on behind them.
                                for gap in std::mem::take(&mut lost) {
                                    self.record_gap(gap).await?;
                                }
                            }
                            self.segments += open.take(start, &bytes, &mut out)?;
                            let position = open.position();
                            self.frontier.send_modify(|f| {
                                f.received = position;
                                f.server = f.server.max(server_end);
                            });
                            if let Some(reporter) = self.progress() {
                                reporter.done(position.distance_from(begun));
                            }
                        }
                        WalMessage::Keepalive { server_end, reply_requested, .. } => {
                            self.frontier.send_modify(|f| f.server = f.server.max(server_end));
                            if reply_requested {
                                let (written, flushed, applied) = positions(&open, has_streamed, done);
                                stream.send_status(written, flushed, applied, false).await?;
                            }
                        }
                        WalMessage::EndOfTimeline { next } => {
                            timeline_over = true;
                            next_timeline = next;
                            open.tail(&mut out)?;
                        }
                    }
                }
            }
        }
        if !timeline_over {
            out.back.extend(open.back_slice());
        }
        for upload in out.back {
            // An uploader that has failed says why when it is waited for.
            let _ = back.queue.send(upload).await;
        }
        let done = front.finish().await?;
        let stored = back.finish().await?;
        self.frontier.send_modify(|f| {
            f.durable = f.durable.max(done);
            f.stored = f.stored.max(if way == Way::Spooled { stored } else { done });
        });
        if timeline_over {
            let next = next_timeline.ok_or_else(|| {
                EngineError::Fault("the server ended a timeline without naming the next".to_owned())
            })?;
            return Ok(Ended::Timeline(Box::new(stream.into_connection()?), next));
        }
        let (written, flushed, applied) = positions(&open, has_streamed, done);
        stream.send_status(written, flushed, applied, false).await?;
        if let Ok(connection) = stream.stop().await {
            connection.close().await;
        }
        Ok(Ended::Done)
    }

    fn slice_is_due(&self, waiting_since: Option<Instant>) -> bool {
        waiting_since.is_some_and(|since| since.elapsed() >= self.options.slice_after)
    }

    async fn record_gap(&self, gap: Gap) -> Result<()> {
        ledger::record(&self.repository, self.cluster.system_identifier, &gap).await?;
        self.alert(
            "wal_gap",
            format!(
                "WAL from {} to {} on timeline {} is lost ({}): take a new snapshot now",
                gap.from_lsn, gap.to_lsn, gap.timeline, gap.explanation
            ),
        );
        self.gaps.send_modify(|gaps| gaps.push(gap));
        Ok(())
    }
}

/// The flush position that a status names: none before the server has sent anything.
fn flushed(has_streamed: bool, durable: Lsn) -> Lsn {
    if has_streamed { durable } else { Lsn::INVALID }
}
