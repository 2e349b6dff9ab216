//! Where a session begins: our slot, our own frontier, the way between timelines, and what is lost on it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdfast_postgres::{
    Lsn, SegmentNo, TimelineHistory, TimelineId, WalExpectations, WalStreamReader,
};
use holdfast_repository::{ObjectKind, PutKind, RepositoryError};
use holdfast_wire::{
    Connection, NextTimeline, ReplicationAccess, SlotFacts, StartedStream, SystemIdentity,
    WalMessage, WireError,
};

use super::archived::Archived;
use super::ledger::GapCause;
use super::open_segment::Start;
use super::safety::{self, SlotCost};
use super::stream::ArchiveStream;
use super::{ArchiveView, Gap, Leg, history_prefix};
use crate::error::{EngineError, Result};

/// How long the server may take to send a segment once more.
const SEGMENT_WITHIN: Duration = Duration::from_mins(1);

/// Our slot as a session found it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// From where on it holds WAL.
    pub(super) restart: Option<Lsn>,
    /// Why it had to be made; none when it was there.
    pub(super) made: Option<GapCause>,
}

impl ArchiveStream {
    pub(super) async fn view(&self) -> Result<ArchiveView> {
        ArchiveView::load(
            self.engine.catalog(),
            &self.repository,
            self.cluster.system_identifier,
            self.cluster.segment_size,
        )
        .await
    }

    /// Opens a replication session, under the name that synchronous standbys are told apart by.
    pub(super) async fn connect(&self) -> Result<(Connection, ReplicationAccess)> {
        self.engine.connect_for_backup_as(&self.cluster, self.application_name()).await
    }

    /// Makes sure that our slot exists and holds WAL; gives from where.
    pub(super) async fn ensure_slot(
        &mut self,
        connection: &mut Connection,
        identity: &SystemIdentity,
    ) -> Result<Slot> {
        let mut made = match self.read_slot(connection).await? {
            // Ours holds WAL from its first moment on. One that does not was invalidated: the server
            // never lets it hold WAL again, even where it still streams through it.
            Some(SlotFacts { restart_lsn: None, .. }) => {
                self.alert(
                    "slot_lost",
                    format!(
                        "the server gave up the replication slot {}: it is made anew",
                        self.cluster.slot
                    ),
                );
                connection.drop_slot(&self.cluster.slot).await?;
                GapCause::SlotLost
            }
            Some(SlotFacts { restart_lsn: Some(restart), .. }) => {
                let held = identity.flush_lsn.distance_from(restart);
                if self.options.drop_slot_after.is_none_or(|allowed| held <= allowed) {
                    return Ok(Slot { restart: Some(restart), made: None });
                }
                self.tell_dropping(held);
                connection.drop_slot(&self.cluster.slot).await?;
                self.dropped = true;
                GapCause::SlotDropped
            }
            None => GapCause::SlotRecreated,
        };
        if self.dropped {
            made = GapCause::SlotDropped;
        }
        self.tell_what_a_slot_costs().await;
        match connection.create_physical_slot(&self.cluster.slot).await {
            Ok(()) => {}
            // Another process was faster.
            Err(WireError::Server(e)) if e.sqlstate == "42710" => {}
            Err(e) => return Err(e.into()),
        }
        // A checkpoint that races with the creation may have invalidated the new slot: read it again.
        let slot = self.read_slot(connection).await?;
        let restart = slot.and_then(|s| s.restart_lsn).ok_or_else(|| {
            EngineError::refused(
                "slot_lost",
                format!("the replication slot {} was lost as soon as it was made", self.cluster.slot),
                "Run the command again. If it goes on, the server removes WAL faster than it can be read: raise \
                 max_slot_wal_keep_size.",
            )
        })?;
        Ok(Slot { restart: Some(restart), made: Some(made) })
    }

    fn tell_dropping(&self, held: u64) {
        self.alert(
            "slot_dropped",
            format!(
                "the replication slot {} holds {held} bytes of WAL back on the server, more than was allowed: it is \
                 dropped, and the WAL that is not archived yet counts as lost",
                self.cluster.slot
            ),
        );
    }

    /// Gives the slot up that this stream was using.
    pub(super) async fn drop_slot(&mut self, held: u64) -> Result<()> {
        self.tell_dropping(held);
        let (mut connection, _) = self.connect().await?;
        // The server needs a moment to notice that our stream is gone.
        let mut tries = 0;
        loop {
            match connection.drop_slot(&self.cluster.slot).await {
                Err(WireError::Server(e)) if e.sqlstate == "55006" && tries < 100 => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        connection.close().await;
        self.dropped = true;
        Ok(())
    }

    /// Says what the slot that is about to be made may cost. Not knowing it stops nothing.
    async fn tell_what_a_slot_costs(&self) {
        let cost = async {
            let mut sql = self.engine.connect_sql(&self.cluster).await?;
            let cost = SlotCost::look(&mut sql, self.cluster.is_local()).await;
            sql.close().await;
            Ok::<_, EngineError>(cost?)
        };
        match cost.await {
            Ok(cost) => {
                for finding in cost.findings() {
                    self.warn(finding.message);
                }
            }
            Err(error) => tracing::debug!(%error, "what a slot costs is not known"),
        }
        if let Some(finding) = safety::minor_version_finding(self.cluster.server_version) {
            self.warn(finding.message);
        }
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

    /// From where to stream: our own frontier, else where the slot holds WAL from. A slot that holds
    /// WAL only from later on is no reason not to ask for the older: the server says what it has.
    pub(super) async fn find_start(
        &mut self,
        view: &ArchiveView,
        slot: Slot,
        identity: &SystemIdentity,
    ) -> Result<Start> {
        let timeline = identity.timeline;
        let size = self.cluster.segment_size;
        let behind = slot.restart.unwrap_or(identity.flush_lsn);
        let start = self.frontier_on_the_way(view, timeline);
        // A slot that was dropped to spare the disk must not be moved back to what it held.
        if std::mem::take(&mut self.dropped)
            && let Some((ours, at, _)) = start
            && at < size.floor(behind)
        {
            return self.start_behind_gap(view, (ours, at), behind, GapCause::SlotDropped).await;
        }
        if let Some((ours, _, from)) = start {
            return self.start_at(ours, size.floor(from), Some(view)).await;
        }
        if let Some((ours, at)) = view.frontier() {
            self.alert(
                "archive_not_continued",
                format!(
                    "the archive ends on timeline {ours} at {at}, which timeline {timeline} of the server does not \
                     continue"
                ),
            );
        }
        self.start_at(timeline, size.floor(behind), Some(view)).await
    }

    /// How far the archive goes on the server's own way: the timeline, the end of what is archived,
    /// and from where to stream.
    fn frontier_on_the_way(
        &self,
        view: &ArchiveView,
        timeline: TimelineId,
    ) -> Option<(TimelineId, Lsn, Lsn)> {
        let size = self.cluster.segment_size;
        let archived_to = |timeline| view.runs(timeline).last().map(|run| run.1);
        if let Some(at) = archived_to(timeline) {
            return Some((timeline, at, at));
        }
        // The server has left the timelines that are archived behind; it still streams the rest of
        // them. Timelines that are no ancestors of its own are another server's history.
        let mut child = timeline;
        for leg in self.way.iter().rev() {
            let (parent, Some(end)) = (leg.timeline, leg.to) else { continue };
            match archived_to(parent) {
                Some(at) if at <= size.end_of(size.segment_of(end)) => {
                    return Some((parent, at, at.min(end)));
                }
                Some(at) => {
                    self.warn(format!(
                        "timeline {parent} is archived to {at}, beyond {end} where timeline {child} of the server leaves \
                         it: both are kept"
                    ));
                    return Some((child, end, end));
                }
                None => child = parent,
            }
        }
        None
    }

    /// Begins behind WAL that is lost: from the frontier `(timeline, lsn)` to the segment of `at`, on
    /// every timeline that the server has been on in between.
    pub(super) async fn start_behind_gap(
        &self,
        view: &ArchiveView,
        (timeline, lsn): (TimelineId, Lsn),
        at: Lsn,
        cause: GapCause,
    ) -> Result<Start> {
        let size = self.cluster.segment_size;
        let at = size.floor(at);
        // As PostgreSQL asks for files: the newest timeline that had begun by the segment's end.
        let end = size.end_of(size.segment_of(at));
        let begin =
            self.way.iter().rev().find(|leg| leg.from < end).map_or(timeline, |l| l.timeline);
        let mut start = self.start_at(begin, at, Some(view)).await?;
        let known = view.runs(timeline).last().map_or(lsn, |run| run.1);
        let nothing = view.timelines().next().is_none();
        start.lost = self
            .way
            .iter()
            .skip_while(|leg| leg.timeline != timeline)
            .filter_map(|leg| {
                let from = if leg.timeline == timeline { known } else { leg.from };
                let to = leg.to.map_or(at, |to| to.min(at));
                (from < to && !nothing).then(|| Gap::now(leg.timeline, from, to, cause))
            })
            .collect();
        Ok(start)
    }

    /// A primary that was demoted, or never heard of its successor, goes on on its old timeline. Its WAL
    /// is kept, as the branch that it is; but nobody must take it for the cluster's newest state.
    pub(super) fn warn_of_another_branch(&self, view: &ArchiveView, identity: &SystemIdentity) {
        let newer = view.histories.iter().rev().find_map(|(timeline, history)| {
            let left = history.switches.iter().find(|s| s.parent == identity.timeline)?;
            let descends = self.way.iter().any(|leg| leg.timeline == *timeline);
            (*timeline > identity.timeline && !descends && identity.flush_lsn > left.switch_lsn)
                .then_some((*timeline, left.switch_lsn))
        });
        if let Some((newer, left)) = newer {
            self.alert(
                "stale_timeline",
                format!(
                    "the server is on timeline {} at {}, but timeline {newer} left it at {left}: this is the old primary, or \
                     a copy. What it writes is kept as a branch of its own; the newest state is on timeline {newer}, which \
                     nobody archives now",
                    identity.timeline, identity.flush_lsn
                ),
            );
        }
    }

    /// Learns how the server came to the timeline it is on.
    pub(super) async fn learn_the_way(
        &mut self,
        connection: &mut Connection,
        timeline: TimelineId,
    ) -> Result<()> {
        let mut history = None;
        if timeline != TimelineId::FIRST {
            let (_, content) = connection.timeline_history(timeline).await?;
            history = TimelineHistory::parse(timeline, &content).ok();
        }
        self.way = Leg::along(history.as_ref(), timeline);
        Ok(())
    }

    /// Prepares the reader at a segment's start.
    pub(super) async fn start_at(
        &self,
        timeline: TimelineId,
        lsn: Lsn,
        view: Option<&ArchiveView>,
    ) -> Result<Start> {
        let size = self.cluster.segment_size;
        let segment = size.segment_of(lsn);
        let mut archived = Archived::nothing();
        let mut reader = self.reader(timeline, lsn);
        let may_read = self.repository.can_read();
        if let Some(view) = view {
            match view.segment(timeline, segment) {
                Some(stored) if may_read => {
                    archived = Archived::Bytes(view.read_segment(&self.repository, stored).await?);
                }
                Some(stored) => archived = Archived::digests_of(stored, lsn),
                None => {}
            }
            let before = segment.0.checked_sub(1).map(SegmentNo);
            if let Some((before, stored)) = before
                .and_then(|n| view.segment(timeline, n).filter(|s| s.complete).map(|s| (n, s)))
            {
                let bytes = if may_read {
                    view.read_segment(&self.repository, stored).await?
                } else {
                    self.segment_of_server(timeline, before).await
                };
                let mut primed = self.reader(timeline, size.start_of(before));
                // One that stands elsewhere has not seen the whole segment before.
                if primed.push(&bytes, &mut Vec::new()).is_ok() && primed.position() == lsn {
                    reader = primed;
                }
            }
        }
        let ends = self.way.iter().find(|leg| leg.timeline == timeline).and_then(|leg| leg.to);
        Ok(Start { timeline, lsn, ends, archived, reader, lost: Vec::new() })
    }

    /// A segment that is archived and may not be read there, once more from the server; empty where the server
    /// has it no more.
    async fn segment_of_server(&self, timeline: TimelineId, segment: SegmentNo) -> Bytes {
        let size = self.cluster.segment_size;
        let asked = tokio::time::timeout(SEGMENT_WITHIN, self.ask_for_segment(timeline, segment));
        let why = match asked.await {
            Ok(Ok(bytes)) if bytes.len() as u64 == size.bytes() => return bytes,
            Ok(Ok(_)) => "it sends less".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer in time".to_owned(),
        };
        self.warn(format!(
            "the record that crosses {} may be missing from the index of the WAL: this machine may not read what is \
             archived, and the server does not send it again ({why})",
            size.end_of(segment)
        ));
        Bytes::new()
    }

    async fn ask_for_segment(&self, timeline: TimelineId, segment: SegmentNo) -> Result<Bytes> {
        let size = self.cluster.segment_size;
        let (start, end) = (size.start_of(segment), size.end_of(segment));
        let (connection, _) = self.connect().await?;
        let mut stream = match connection.start_physical(None, start, timeline).await? {
            StartedStream::Streaming(stream) => stream,
            StartedStream::AlreadyEnded { connection, .. } => {
                connection.close().await;
                return Ok(Bytes::new());
            }
        };
        let whole = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        let mut received = BytesMut::new();
        while received.len() < whole {
            match stream.next().await? {
                WalMessage::Data { start: at, bytes, .. } => {
                    if at != start.saturating_add(received.len() as u64) {
                        break;
                    }
                    received.extend_from_slice(&bytes[..bytes.len().min(whole - received.len())]);
                }
                WalMessage::Keepalive { server_end, .. } if server_end < end => break,
                WalMessage::Keepalive { .. } => {}
                WalMessage::EndOfTimeline { .. } => return Ok(received.freeze()),
            }
        }
        stream.stop().await?.close().await;
        Ok(received.freeze())
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

    pub(super) async fn start_on_next(&self, next: NextTimeline) -> Result<Start> {
        let lsn = self.cluster.segment_size.floor(next.switch_lsn);
        let view = self.view().await?;
        self.start_at(next.timeline, lsn, Some(&view)).await
    }

    /// Stores a timeline's history with its whole ancestry.
    pub(super) async fn keep_history(
        &self,
        connection: &mut Connection,
        timeline: TimelineId,
    ) -> Result<()> {
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
                .put_shared(
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
}

/// Where a timeline's ancestors end, without the words that servers add.
fn branches(history: &TimelineHistory) -> Vec<(TimelineId, Lsn)> {
    history.switches.iter().map(|s| (s.parent, s.switch_lsn)).collect()
}
