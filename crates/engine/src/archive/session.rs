//! One connection's worth of streaming, across timelines: what has to be settled before WAL flows, and
//! what follows when a timeline, or the WAL that the server still has, ends.

use std::time::Duration;

use holdfast_wire::{Connection, NextTimeline, StartedStream, WireError};

use super::archived::Archived;
use super::ledger::GapCause;
use super::open_segment::{OpenSegment, Outgoing, Way};
use super::spool::{Claim, Spool};
use super::stream::{ArchiveStream, stalled};
use super::synchronous::{self, Membership};
use super::{ArchiveView, Durability, history_prefix, slices_prefix, upload, wal_prefix};
use crate::error::{EngineError, Result};

/// How long the store may take to tell what it holds, when somebody waits for the stream.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// How a session on one timeline ended.
pub(super) enum Ended {
    Done,
    Timeline(Box<Connection>, NextTimeline),
    /// The slot holds so many bytes back, more than is allowed.
    SlotTooLarge(u64),
}

impl ArchiveStream {
    /// One connection's worth of streaming, across timelines.
    pub(super) async fn session(&mut self) -> Result<()> {
        let spool = match self.options.durability {
            Durability::Store => None,
            Durability::Spool => Some(Spool::of(self.engine.home(), &self.cluster).await?),
        };
        // What a crash has left in a spool comes first, whether it is used now or not.
        let _claim = self.empty_spool(spool.as_ref()).await?;
        // The store is asked before the server is: a walsender that is not streaming yet holds nobody up,
        // but one that waits for a store that hangs might.
        let view = match self.options.stall_limit {
            Some(limit) => tokio::time::timeout(limit.max(LOOK_WITHIN), self.durable_view())
                .await
                .unwrap_or_else(|_| Err(stalled(self.frontier.borrow().durable, limit)))?,
            None => self.durable_view().await?,
        };
        let (mut connection, _) = self.connect().await?;
        let identity = connection.identify_system().await?;
        let slot = self.ensure_slot(&mut connection, &identity).await?;
        if identity.timeline.get() > 1 {
            self.keep_history(&mut connection, identity.timeline).await?;
        }
        self.learn_the_way(&mut connection, identity.timeline).await?;
        self.warn_of_another_branch(&view, &identity);
        let mut start = self.find_start(&view, slot, &identity).await?;
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
                    self.receive(stream, start, spool.as_ref()).await
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
                    self.learn_the_way(&mut connection, identity.timeline).await?;
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
                    start = self.start_behind_gap(&view, (timeline, lsn), at, cause).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What the store holds and keeps: the server will be told of it as flushed, also of what a process
    /// has left that was killed before it had synced it.
    async fn durable_view(&self) -> Result<ArchiveView> {
        let system = self.cluster.system_identifier;
        for prefix in [wal_prefix(system), slices_prefix(system), history_prefix(system)] {
            self.repository.store().settle(&prefix).await?;
        }
        self.view().await
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
        let Some(claim) = spool.claim().await? else {
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
        // Whoever may not read them leaves the slices, which hold the same.
        if !self.repository.can_read() {
            return Ok(());
        }
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
                let archived = std::mem::replace(&mut start.archived, Archived::nothing());
                let bytes = archived.beyond(0).unwrap_or_default();
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
}
