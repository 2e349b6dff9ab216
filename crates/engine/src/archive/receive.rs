//! Receives one timeline's WAL, and tells the server what of it is durable.

use std::time::Duration;

use holdfast_postgres::Lsn;
use holdfast_wire::{WalMessage, WalStream};
use tokio::time::Instant;

use super::open_segment::{OpenSegment, Outgoing, Start, Way};
use super::safety::SlotWatch;
use super::session::Ended;
use super::spool::Spool;
use super::stream::{ArchiveStream, stalled};
use super::upload::{Abandon, Carrier, Place, ended};
use super::{Gap, ledger};
use crate::error::{EngineError, Result};

/// The server hears from us at least this often, however slow the store is.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Pieces that wait for the store behind the one that is on its way. Each may be a whole segment.
const BEHIND_AT_ONCE: usize = 2;
const BEHIND_SPOOL: usize = 6;

impl ArchiveStream {
    /// Streams one timeline to its end, to the asked position, or until cancelled.
    pub(super) async fn receive(
        &mut self,
        mut stream: WalStream,
        mut start: Start,
        spool: Option<&Spool>,
    ) -> Result<Ended> {
        let held = start.lsn.saturating_add(start.archived.length() as u64);
        // What is archived beyond the place where the server left the timeline is not its own way.
        let ends = start.ends;
        let begun = ends.map_or(held, |end| held.min(end));
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
        // With remote_write a commit returns once it is written, which means: with the operating system.
        // What only this process holds is not. Applied stays unset unless it was asked for: an archive does
        // not apply, and must not let remote_apply believe that it does.
        let is_member = self.options.synchronous.is_some();
        let positions = |open: &OpenSegment, has_streamed: bool, durable: Lsn| {
            let written = if is_member { durable } else { open.position() };
            let flushed = if has_streamed { durable } else { Lsn::INVALID };
            (written, flushed, if report_apply { flushed } else { Lsn::INVALID })
        };
        loop {
            let done = *front.durable.borrow();
            let asked_here = |to: &Lsn| ends.is_none_or(|end| *to <= end);
            let reached = self.options.once_to.filter(asked_here).is_some_and(|to| done >= to);
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
                // Never before the slices that it replaces: one that came after it would stay for ever.
                permit = back.queue.reserve(),
                    if out.back.front().is_some_and(|upload| upload.durable_to <= done) =>
                {
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
        let done = front.finish().await?;
        for upload in out.back {
            // An uploader that has failed says why when it is waited for.
            let _ = back.queue.send(upload).await;
        }
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
