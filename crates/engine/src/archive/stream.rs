//! Streams WAL from the server into the repository.
//!
//! The flush position that the server is told is what the store has confirmed, never more. Reading
//! starts at the start of the first segment that is not whole in the repository, whatever the slot
//! says: what was archived of that segment before is compared as it passes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::Utc;
use holdfast_postgres::{
    Lsn, SegmentNo, TimelineHistory, TimelineId, WalExpectations, WalRecord, WalSegmentSize,
    WalStreamReader,
};
use holdfast_repository::{ObjectKind, PutKind, Repository, RepositoryError};
use holdfast_wire::{
    Connection, NextTimeline, SlotFacts, StartedStream, WalMessage, WalStream, WireError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::index::SegmentIndex;
use super::markers::MarkerGatherer;
use super::upload::{self, Replaces, Upload};
use super::{ArchiveView, Gap, coverage_prefix, history_prefix, segment_path, slice_directory};
use crate::Engine;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::Reporter;

/// A slice of the open segment is stored at the latest this long after its first byte arrived.
const SLICE_AFTER: Duration = Duration::from_secs(2);
/// The server hears from us at least this often, however slow the store is.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// After this many slices of a segment they are merged into one.
const MERGE_AFTER: usize = 24;
/// How long a server that was reached before may stay away until the job fails.
const AWAY_LIMIT: Duration = Duration::from_mins(5);

/// What to stream.
#[derive(Debug, Clone, Default)]
pub struct ArchiveOptions {
    /// Stop once WAL up to here is durable; otherwise when cancelled.
    pub once_to: Option<Lsn>,
}

/// How far the archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frontier {
    /// The timeline being streamed; none before the stream began.
    pub timeline: Option<TimelineId>,
    /// Where the stream of this run began.
    pub started_at: Lsn,
    /// Everything below is received.
    pub received: Lsn,
    /// Everything below is in the store.
    pub durable: Lsn,
    /// How far the server has written.
    pub server: Lsn,
}

/// What a run of the archiver did.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ArchiveResult {
    /// The job.
    pub job: String,
    /// Everything below is in the store.
    #[ts(type = "string")]
    pub durable_lsn: Lsn,
    /// The timeline it is on.
    pub timeline: u32,
    /// Whole segments stored by this run.
    #[ts(type = "number")]
    pub segments: u64,
}

/// One run of the archiver for one cluster.
pub(crate) struct ArchiveStream {
    engine: Engine,
    cluster: Cluster,
    repository: Repository,
    options: ArchiveOptions,
    reporter: Option<Reporter>,
    cancel: CancellationToken,
    frontier: watch::Sender<Frontier>,
    segments: u64,
}

/// Where a session starts.
struct Start {
    timeline: TimelineId,
    lsn: Lsn,
    /// WAL of the segment at `lsn` that is archived already, as slices.
    archived: Bytes,
    /// The reader, having seen the segment before, so that a record that crosses is read whole.
    reader: WalStreamReader,
}

/// How a session on one timeline ended.
enum Ended {
    Done,
    Timeline(Box<Connection>, NextTimeline),
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
        (
            Self { engine, cluster, repository, options, reporter, cancel, frontier, segments: 0 },
            watched,
        )
    }

    /// Streams until cancelled or until the asked position is durable.
    ///
    /// A server that goes away is tried again; one that was never reached is an error at once.
    pub(crate) async fn run(mut self) -> Result<(Frontier, u64)> {
        let mut away_since: Option<Instant> = None;
        let mut wait = Duration::from_millis(500);
        loop {
            let before = *self.frontier.borrow();
            let error = match self.session().await {
                Ok(()) => break,
                Err(error) => error,
            };
            let transient = matches!(&error, EngineError::Wire(e) if e.retryable());
            let reached_before =
                before.timeline.is_some() || self.frontier.borrow().timeline.is_some();
            if *self.frontier.borrow() != before {
                away_since = None;
                wait = Duration::from_millis(500);
            }
            let away = *away_since.get_or_insert_with(Instant::now);
            if !transient || !reached_before || away.elapsed() > AWAY_LIMIT {
                return Err(error);
            }
            self.warn(format!(
                "{}; trying again in {} s",
                error.to_object().message,
                wait.as_secs().max(1)
            ));
            tokio::select! {
                () = self.cancel.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            wait = (wait * 2).min(Duration::from_secs(30));
        }
        Ok((*self.frontier.borrow(), self.segments))
    }

    fn warn(&self, message: String) {
        if let Some(reporter) = &self.reporter {
            reporter.warning(message);
        } else {
            tracing::warn!(cluster = %self.cluster.name, "{message}");
        }
    }

    /// One connection's worth of streaming, across timelines.
    async fn session(&mut self) -> Result<()> {
        let (mut connection, _) = self.engine.connect_for_backup(&self.cluster).await?;
        let slot = self.ensure_slot(&mut connection).await?;
        let identity = connection.identify_system().await?;
        if identity.timeline.get() > 1 {
            self.keep_history(&mut connection, identity.timeline).await?;
        }
        let mut start =
            self.find_start(&mut connection, slot, identity.timeline, identity.flush_lsn).await?;
        let mut gap_tried = false;
        loop {
            let (timeline, lsn) = (start.timeline, start.lsn);
            let started = match connection
                .start_physical(Some(&self.cluster.slot), lsn, timeline)
                .await
            {
                Ok(StartedStream::Streaming(stream)) => self.stream(stream, start).await,
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
                // The server does not have this WAL any more: that is a gap, recorded before going on.
                Err(EngineError::Wire(WireError::WalRemoved { .. })) if !gap_tried => {
                    gap_tried = true;
                    (connection, _) = self.engine.connect_for_backup(&self.cluster).await?;
                    let identity = connection.identify_system().await?;
                    let slot = self.ensure_slot(&mut connection).await?;
                    let size = self.cluster.segment_size;
                    let held = slot.map(|held| size.floor(held)).filter(|held| *held > lsn);
                    let at = held.unwrap_or_else(|| size.floor(identity.flush_lsn));
                    let known = self.view().await?.runs(timeline).last().map(|run| run.1);
                    self.record_gap(
                        identity.timeline,
                        known.unwrap_or(lsn),
                        at,
                        "the server had removed this WAL",
                    )
                    .await?;
                    start = self.start_at(identity.timeline, at, None).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn view(&self) -> Result<ArchiveView> {
        ArchiveView::load(
            self.engine.catalog(),
            &self.repository,
            self.cluster.system_identifier,
            self.cluster.segment_size,
        )
        .await
    }

    /// Makes sure that our slot exists and holds WAL; gives from where.
    async fn ensure_slot(&self, connection: &mut Connection) -> Result<Option<Lsn>> {
        match self.read_slot(connection).await? {
            // Ours holds WAL from its first moment on. One that does not was invalidated: the server
            // never lets it hold WAL again, even where it still streams through it.
            Some(slot) if slot.restart_lsn.is_none() => {
                self.warn(format!(
                    "the server gave up the replication slot {} (max_slot_wal_keep_size): it is made anew",
                    self.cluster.slot
                ));
                connection.drop_slot(&self.cluster.slot).await?;
            }
            Some(slot) => return Ok(slot.restart_lsn),
            None => {}
        }
        match connection.create_physical_slot(&self.cluster.slot).await {
            Ok(()) => {}
            // Another process was faster.
            Err(WireError::Server(e)) if e.sqlstate == "42710" => {}
            Err(e) => return Err(e.into()),
        }
        // A checkpoint that races with the creation may have invalidated the new slot: read it again.
        let slot = self.read_slot(connection).await?;
        slot.and_then(|s| s.restart_lsn).map(Some).ok_or_else(|| {
            EngineError::refused(
                "slot_lost",
                format!("the replication slot {} was lost as soon as it was made", self.cluster.slot),
                "Run the command again. If it goes on, the server removes WAL faster than it can be read: raise \
                 max_slot_wal_keep_size.",
            )
        })
    }

    /// Before PostgreSQL 15 a slot can only be read with SQL.
    async fn read_slot(&self, connection: &mut Connection) -> Result<Option<SlotFacts>> {
        match connection.read_slot(&self.cluster.slot).await {
            Err(WireError::UnsupportedVersion { .. }) => {
                let mut sql = self.engine.connect_sql(&self.cluster).await?;
                let slot = sql.read_slot(&self.cluster.slot).await?;
                sql.close().await;
                Ok(slot)
            }
            read => Ok(read?),
        }
    }

    /// From where to stream: our own frontier, else where the slot holds WAL from.
    async fn find_start(
        &self,
        connection: &mut Connection,
        slot: Option<Lsn>,
        timeline: TimelineId,
        flushed: Lsn,
    ) -> Result<Start> {
        let view = self.view().await?;
        let size = self.cluster.segment_size;
        let archived_to = |timeline| view.runs(timeline).last().map(|run| run.1);
        if let Some(at) = archived_to(timeline) {
            return self.start_at(timeline, size.floor(at), Some(&view)).await;
        }
        // The server has left the timelines that are archived behind; it still streams the rest of
        // them. Timelines that are no ancestors of its own are another server's history.
        if let Some(history) = self.history(connection, timeline).await? {
            let mut child = timeline;
            for switch in history.switches.iter().rev() {
                let end = switch.switch_lsn;
                match archived_to(switch.parent) {
                    Some(at) if at <= size.end_of(size.segment_of(end)) => {
                        return self
                            .start_at(switch.parent, size.floor(at.min(end)), Some(&view))
                            .await;
                    }
                    Some(at) => {
                        self.warn(format!(
                            "timeline {} is archived to {at}, beyond {end} where timeline {child} of the server leaves it: \
                             both are kept",
                            switch.parent
                        ));
                        return self.start_at(child, size.floor(end), Some(&view)).await;
                    }
                    None => child = switch.parent,
                }
            }
        }
        if let Some((ours, at)) = view.frontier() {
            self.warn(format!(
                "the archive ends on timeline {ours} at {at}, which timeline {timeline} of the server does not continue"
            ));
        }
        self.start_at(timeline, size.floor(slot.unwrap_or(flushed)), Some(&view)).await
    }

    async fn history(
        &self,
        connection: &mut Connection,
        timeline: TimelineId,
    ) -> Result<Option<TimelineHistory>> {
        if timeline.get() == 1 {
            return Ok(None);
        }
        let (_, content) = connection.timeline_history(timeline).await?;
        Ok(TimelineHistory::parse(timeline, &content).ok())
    }

    /// Prepares the reader at a segment's start.
    async fn start_at(
        &self,
        timeline: TimelineId,
        lsn: Lsn,
        view: Option<&ArchiveView>,
    ) -> Result<Start> {
        let size = self.cluster.segment_size;
        let segment = size.segment_of(lsn);
        let mut archived = Bytes::new();
        let mut reader = self.reader(timeline, lsn);
        if let Some(view) = view {
            if let Some(stored) = view.segment(timeline, segment) {
                archived = view.read_segment(&self.repository, stored).await?;
            }
            let before = segment.0.checked_sub(1).map(SegmentNo);
            if let Some((before, stored)) = before
                .and_then(|n| view.segment(timeline, n).filter(|s| s.complete).map(|s| (n, s)))
            {
                let bytes = view.read_segment(&self.repository, stored).await?;
                let mut primed = self.reader(timeline, size.start_of(before));
                if primed.push(&bytes, &mut Vec::new()).is_ok() {
                    reader = primed;
                }
            }
        }
        Ok(Start { timeline, lsn, archived, reader })
    }

    fn reader(&self, timeline: TimelineId, lsn: Lsn) -> WalStreamReader {
        // The first pages of a segment in which a timeline begins carry the parent's number.
        let expected = WalExpectations {
            system_identifier: Some(self.cluster.system_identifier),
            timeline: (timeline.get() == 1).then_some(timeline),
            wal_magic: self.cluster.server_version.traits().map(|t| t.wal_magic),
        };
        WalStreamReader::at_segment(lsn, self.cluster.segment_size, expected)
    }

    async fn start_on_next(&self, next: NextTimeline) -> Result<Start> {
        let lsn = self.cluster.segment_size.floor(next.switch_lsn);
        let view = self.view().await?;
        self.start_at(next.timeline, lsn, Some(&view)).await
    }

    /// Stores a timeline's history with its whole ancestry.
    async fn keep_history(&self, connection: &mut Connection, timeline: TimelineId) -> Result<()> {
        let newest = timeline;
        let mut wanted = vec![timeline];
        while let Some(timeline) = wanted.pop() {
            if timeline.get() == 1 {
                continue;
            }
            let path = format!(
                "{}{}",
                history_prefix(self.cluster.system_identifier),
                TimelineHistory::file_name(timeline)
            );
            let known: Option<(Bytes, serde_json::Value)> =
                match self.repository.get_sealed(&path, ObjectKind::TimelineHistory).await {
                    Ok(known) => Some(known),
                    Err(RepositoryError::NotFound { .. }) => None,
                    Err(error) => return Err(error.into()),
                };
            let (_, content) = match connection.timeline_history(timeline).await {
                Ok(found) => found,
                // An ancestor's own file may be gone from the server; the child's lists it anyway.
                Err(WireError::Server(_)) if timeline != newest => continue,
                Err(error) => return Err(error.into()),
            };
            let history = TimelineHistory::parse(timeline, &content).map_err(|e| {
                EngineError::integrity(
                    "timeline_history_damaged",
                    format!("the server's history of timeline {timeline} cannot be read: {e}"),
                    "Compare the file in the server's pg_wal with a standby's.",
                )
            })?;
            if let Some((known, _)) = known {
                let same = TimelineHistory::parse(timeline, &known)
                    .is_ok_and(|known| branches(&known) == branches(&history));
                if !same {
                    return Err(EngineError::integrity(
                        "timeline_differs",
                        format!(
                            "the server's timeline {timeline} began elsewhere than the timeline {timeline} that is archived"
                        ),
                        "Two copies of this cluster were promoted to the same timeline. Only one of them can be archived \
                         here: add the other one to a repository of its own. Nothing was overwritten.",
                    ));
                }
                wanted.extend(history.switches.last().map(|s| s.parent));
                continue;
            }
            let stored = self
                .repository
                .put_sealed(
                    &path,
                    ObjectKind::TimelineHistory,
                    Bytes::from(content),
                    &serde_json::json!({ "timeline": timeline, "switches": history.switches.len() }),
                    PutKind::CreateOnly,
                )
                .await;
            match stored {
                Ok(_) | Err(RepositoryError::AlreadyExists { .. }) => {}
                Err(e) => return Err(e.into()),
            }
            wanted.extend(history.switches.last().map(|s| s.parent));
        }
        Ok(())
    }

    async fn record_gap(
        &self,
        timeline: TimelineId,
        from: Lsn,
        to: Lsn,
        cause: &str,
    ) -> Result<()> {
        if to <= from {
            return Ok(());
        }
        let gap = Gap {
            from_lsn: from,
            to_lsn: to,
            timeline,
            cause: cause.to_owned(),
            detected_at: Utc::now(),
        };
        let path = format!("{}{}", coverage_prefix(self.cluster.system_identifier), Uuid::now_v7());
        self.repository.put_document(&path, ObjectKind::Coverage, &gap).await?;
        self.warn(format!("WAL from {from} to {to} is lost ({cause}): take a new snapshot now"));
        Ok(())
    }

    /// Streams one timeline to its end, to the asked position, or until cancelled.
    async fn stream(&mut self, mut stream: WalStream, start: Start) -> Result<Ended> {
        let (uploads, queue) = mpsc::channel::<Upload>(1);
        let begun = start.lsn.saturating_add(start.archived.len() as u64);
        let (durable_to, mut durable) = watch::channel(begun);
        let mut uploader = tokio::spawn(upload::run(self.repository.clone(), queue, durable_to));
        let mut open = OpenSegment::new(&self.cluster, start);
        self.frontier.send_modify(|f| {
            f.timeline = Some(open.timeline);
            f.started_at = if f.started_at.is_valid() { f.started_at } else { open.position() };
            f.received = f.received.max(open.position());
            f.durable = f.durable.max(begun);
        });
        if let Some(reporter) = &self.reporter {
            reporter.phase("streaming", Some("bytes"), None);
            reporter.log(format!("streaming timeline {} from {}", open.timeline, open.position()));
        }
        // One piece is with the uploader, one is received: nothing waits between them, since each may
        // be a whole segment.
        let mut pending: VecDeque<Upload> = VecDeque::new();
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
        loop {
            let done = *durable.borrow();
            let reached = self.options.once_to.is_some_and(|to| done >= to);
            if reached
                || (stopping && done >= open.position())
                || (timeline_over && pending.is_empty())
            {
                break;
            }
            tokio::select! {
                biased;
                ended = &mut uploader => {
                    return match ended {
                        Ok(Err(error)) => Err(error),
                        Ok(Ok(())) => Err(EngineError::Fault("the uploader ended early".to_owned())),
                        Err(error) => Err(EngineError::Fault(format!("the uploader failed: {error}"))),
                    };
                }
                _ = durable.changed() => {
                    let at = *durable.borrow_and_update();
                    self.frontier.send_modify(|f| f.durable = f.durable.max(at));
                    // Applied stays unset: an archive does not apply, and must not let remote_apply wait for it.
                    stream.send_status(open.position(), flushed(has_streamed, at), Lsn::INVALID, false).await?;
                }
                permit = uploads.reserve(), if !pending.is_empty() && done >= handed_to => {
                    if let (Ok(permit), Some(upload)) = (permit, pending.pop_front()) {
                        handed_to = upload.durable_to;
                        permit.send(upload);
                    }
                }
                _ = status.tick() => {
                    stream.send_status(open.position(), flushed(has_streamed, done), Lsn::INVALID, false).await?;
                }
                () = self.cancel.cancelled(), if !stopping => {
                    stopping = true;
                    pending.extend(open.slice());
                }
                _ = ticks.tick(), if pending.is_empty() && !timeline_over => {
                    let wanted = self.options.once_to.is_some_and(|to| open.position() >= to);
                    if wanted || open.slice_is_due() {
                        pending.extend(open.slice());
                    }
                }
                message = stream.next(), if pending.is_empty() && !stopping && !timeline_over => {
                    match message? {
                        WalMessage::Data { start, server_end, bytes, .. } => {
                            has_streamed = true;
                            for sealed in open.take(start, &bytes)? {
                                self.segments += 1;
                                pending.push_back(sealed);
                            }
                            let position = open.position();
                            self.frontier.send_modify(|f| {
                                f.received = position;
                                f.server = f.server.max(server_end);
                            });
                            if let Some(reporter) = &self.reporter {
                                reporter.done(position.distance_from(begun));
                            }
                        }
                        WalMessage::Keepalive { server_end, reply_requested, .. } => {
                            self.frontier.send_modify(|f| f.server = f.server.max(server_end));
                            if reply_requested {
                                stream.send_status(open.position(), flushed(has_streamed, done), Lsn::INVALID, false).await?;
                            }
                        }
                        WalMessage::EndOfTimeline { next } => {
                            timeline_over = true;
                            next_timeline = next;
                            pending.extend(open.tail()?);
                        }
                    }
                }
            }
        }
        drop(uploads);
        match uploader.await {
            Ok(outcome) => outcome?,
            Err(error) => return Err(EngineError::Fault(format!("the uploader failed: {error}"))),
        }
        let done = *durable.borrow();
        self.frontier.send_modify(|f| f.durable = f.durable.max(done));
        if timeline_over {
            let next = next_timeline.ok_or_else(|| {
                EngineError::Fault("the server ended a timeline without naming the next".to_owned())
            })?;
            return Ok(Ended::Timeline(Box::new(stream.into_connection()?), next));
        }
        stream
            .send_status(open.position(), flushed(has_streamed, done), Lsn::INVALID, false)
            .await?;
        if let Ok(connection) = stream.stop().await {
            connection.close().await;
        }
        Ok(Ended::Done)
    }
}

/// The flush position that a status names: none before the server has sent anything.
fn flushed(has_streamed: bool, durable: Lsn) -> Lsn {
    if has_streamed { durable } else { Lsn::INVALID }
}

/// Where a timeline's ancestors end, without the words that servers add.
fn branches(history: &TimelineHistory) -> Vec<(TimelineId, Lsn)> {
    history.switches.iter().map(|s| (s.parent, s.switch_lsn)).collect()
}

/// Room for a segment, so that it never has to be moved while it grows.
fn room(size: WalSegmentSize) -> BytesMut {
    BytesMut::with_capacity(usize::try_from(size.bytes()).unwrap_or(0))
}

/// The segment that is being received.
struct OpenSegment {
    system: holdfast_postgres::SystemIdentifier,
    timeline: TimelineId,
    size: WalSegmentSize,
    major: u32,
    segment: SegmentNo,
    bytes: BytesMut,
    reader: WalStreamReader,
    index: SegmentIndex,
    markers: MarkerGatherer,
    /// What is archived of this segment from before: compared, not stored again.
    archived: Bytes,
    /// First byte that no slice holds.
    sliced_to: Lsn,
    slices: Vec<String>,
    /// When the first byte that no slice holds arrived.
    waiting_since: Option<Instant>,
    records: Vec<WalRecord>,
}

impl OpenSegment {
    fn new(cluster: &Cluster, start: Start) -> Self {
        let segment = cluster.segment_size.segment_of(start.lsn);
        Self {
            system: cluster.system_identifier,
            timeline: start.timeline,
            size: cluster.segment_size,
            major: cluster.server_version.major(),
            segment,
            bytes: room(cluster.segment_size),
            reader: start.reader,
            index: SegmentIndex::new(start.timeline, segment, cluster.segment_size, start.lsn),
            markers: MarkerGatherer::new(),
            sliced_to: start.lsn.saturating_add(start.archived.len() as u64),
            archived: start.archived,
            slices: Vec::new(),
            waiting_since: None,
            records: Vec::new(),
        }
    }

    fn start(&self) -> Lsn {
        self.size.start_of(self.segment)
    }

    /// The next byte expected.
    fn position(&self) -> Lsn {
        self.start().saturating_add(self.bytes.len() as u64)
    }

    /// Takes a message's bytes; gives the segments that are whole now.
    fn take(&mut self, start: Lsn, mut bytes: &[u8]) -> Result<Vec<Upload>> {
        if start != self.position() {
            return Err(EngineError::Fault(format!(
                "the server sent WAL from {start} where {} was next",
                self.position()
            )));
        }
        let mut sealed = Vec::new();
        while !bytes.is_empty() {
            let room =
                usize::try_from(self.size.end_of(self.segment).distance_from(self.position()))
                    .unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(bytes.len().min(room));
            bytes = rest;
            self.compare_with_archived(now)?;
            self.bytes.extend_from_slice(now);
            self.read(now)?;
            if self.position() > self.sliced_to {
                self.waiting_since.get_or_insert_with(Instant::now);
            }
            if self.position() == self.size.end_of(self.segment) {
                sealed.push(self.seal());
            }
        }
        Ok(sealed)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<()> {
        self.records.clear();
        self.reader.push(bytes, &mut self.records).map_err(|e| {
            EngineError::integrity(
                "wal_stream_damaged",
                format!("the WAL that the server sends is not whole: {e}"),
                "Nothing after this point was acknowledged or stored. Check the server's disk and its log; a standby may \
                 have this WAL intact.",
            )
        })?;
        let major = self.major;
        for record in &self.records {
            self.index.add(record, major, &mut self.markers)?;
        }
        self.index.to = self.position();
        Ok(())
    }

    fn compare_with_archived(&self, now: &[u8]) -> Result<()> {
        let at = self.bytes.len();
        let Some(known) = self.archived.get(at..) else { return Ok(()) };
        let n = known.len().min(now.len());
        if known[..n] == now[..n] {
            return Ok(());
        }
        Err(EngineError::integrity(
            "wal_differs",
            format!("the server sends other WAL at {} than what is archived", self.position()),
            "Two servers write the same timeline, or the server came back from a copy without a new timeline. Nothing was \
             overwritten. Find out which server is the right one before archiving goes on.",
        ))
    }

    fn slice_is_due(&self) -> bool {
        self.waiting_since.is_some_and(|since| since.elapsed() >= SLICE_AFTER)
    }

    /// What no slice holds yet, as a slice; every so often the whole segment so far, in place of its slices.
    fn slice(&mut self) -> Option<Upload> {
        let position = self.position();
        if position <= self.sliced_to {
            return None;
        }
        let merge = self.slices.len() >= MERGE_AFTER;
        let from = if merge { self.start() } else { self.sliced_to };
        let offset = usize::try_from(from.distance_from(self.start())).unwrap_or(0);
        let directory = slice_directory(self.system, self.timeline, self.segment, self.size);
        let path = format!("{directory}{offset:08x}-{:08x}", self.bytes.len());
        let replaces = if merge {
            Replaces::Slices(std::mem::take(&mut self.slices))
        } else {
            Replaces::Nothing
        };
        self.slices.push(path.clone());
        self.sliced_to = position;
        self.waiting_since = None;
        Some(Upload {
            path,
            sealed: false,
            bytes: Bytes::copy_from_slice(&self.bytes[offset..]),
            index: self.index.since(from),
            durable_to: position,
            replaces,
        })
    }

    fn seal(&mut self) -> Upload {
        let end = self.position();
        let next = SegmentNo(self.segment.0 + 1);
        let index = std::mem::replace(
            &mut self.index,
            SegmentIndex::new(self.timeline, next, self.size, end),
        );
        let upload = Upload {
            path: segment_path(self.system, self.timeline, self.segment, self.size),
            sealed: true,
            bytes: std::mem::replace(&mut self.bytes, room(self.size)).freeze(),
            index,
            durable_to: end,
            replaces: Replaces::Directory(slice_directory(
                self.system,
                self.timeline,
                self.segment,
                self.size,
            )),
        };
        self.segment = next;
        self.archived = Bytes::new();
        self.sliced_to = end;
        self.slices.clear();
        self.waiting_since = None;
        upload
    }

    /// The tail of a timeline that ended: kept at its true length. What was archived of it beyond
    /// the place where the server left it is history all the same, of a server that is gone.
    fn tail(&mut self) -> Result<Option<Upload>> {
        let beyond = self.archived.slice(self.bytes.len().min(self.archived.len())..);
        self.bytes.extend_from_slice(&beyond);
        self.read(&beyond)?;
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let mut upload = self.seal();
        upload.path.push_str(".partial");
        Ok(Some(upload))
    }
}
