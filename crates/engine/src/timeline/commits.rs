//! Single commits of a history, found without reading all of it.

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, PgTimestamp, Xid};

use super::Way;
use super::history::{Freshness, History, Step};
use crate::Engine;
use crate::archive::PointEvent;
use crate::error::Result;
use crate::points::{Commit, CommitPage};

/// The most commits one page gives.
const PAGE_LIMIT: usize = 1000;

/// Which commits to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Around {
    /// The newest.
    End,
    /// Those around the first, in WAL order, at this time or later.
    Time(DateTime<Utc>),
    /// Those around the first whose record starts here or later.
    Lsn(Lsn),
    /// Those around the newest end of this transaction; the newest of all where it did not end here.
    Xid(Xid),
}

impl Engine {
    /// Up to `limit` commits around a place on `way`, in WAL order.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn commits(
        &self,
        name: &str,
        around: Around,
        limit: usize,
        way: Way,
        freshness: Freshness,
    ) -> Result<CommitPage> {
        let cluster = self.cluster(name).await?;
        let history = self.history(&cluster, freshness).await?;
        history.commits(self, around, limit.clamp(1, PAGE_LIMIT), way).await
    }
}

impl History {
    async fn commits(
        &self,
        engine: &Engine,
        around: Around,
        limit: usize,
        way: Way,
    ) -> Result<CommitPage> {
        let legs = self.legs(way)?;
        let steps: Vec<Step<'_>> =
            self.steps(&legs).into_iter().filter(|step| self.has_events(step)).collect();
        let (at, inside) = self.place(engine, &steps, around).await?;
        let mut after: Vec<PointEvent> = Vec::new();
        let mut before: Vec<PointEvent> = Vec::new();
        if let Some(step) = steps.get(at) {
            let mut events = self.events(engine, *step).await?;
            after = events.split_off(inside.min(events.len()));
            before = events;
        }
        for step in steps.iter().skip(at + 1) {
            if after.len() > limit {
                break;
            }
            after.extend(self.events(engine, *step).await?);
        }
        for step in steps.iter().take(at).rev() {
            if before.len() > limit {
                break;
            }
            let mut earlier = self.events(engine, *step).await?;
            earlier.append(&mut before);
            before = earlier;
        }
        let middle = before.len();
        let all: Vec<&PointEvent> = before.iter().chain(&after).collect();
        let end = (middle + limit / 2 + limit % 2).min(all.len());
        let start = end.saturating_sub(limit);
        let end = (start + limit).min(all.len());
        Ok(CommitPage {
            commits: all[start..end].iter().map(|event| Commit::of(event)).collect(),
            earlier: start > 0,
            later: end < all.len(),
        })
    }

    fn has_events(&self, step: &Step<'_>) -> bool {
        self.outlines(step.stored).any(|o| o.ends > 0 || !o.index.points.is_empty())
    }

    /// The segment and the place in it where `around` is.
    async fn place(
        &self,
        engine: &Engine,
        steps: &[Step<'_>],
        around: Around,
    ) -> Result<(usize, usize)> {
        match around {
            Around::End => Ok((steps.len(), 0)),
            Around::Lsn(lsn) => {
                // A record belongs to the segment in which it ends, so the wanted one may stand in the next.
                let first = steps.partition_point(|step| {
                    step.stored.end() <= lsn || step.leg.to.is_some_and(|to| to <= lsn)
                });
                for (at, step) in steps.iter().enumerate().skip(first) {
                    let events = self.events(engine, *step).await?;
                    let inside = events.partition_point(|e| e.span().start < lsn);
                    if inside < events.len() {
                        return Ok((at, inside));
                    }
                }
                Ok((steps.len(), 0))
            }
            Around::Time(time) => {
                let wanted = PgTimestamp::from_chrono(time);
                for (at, step) in steps.iter().enumerate() {
                    let later =
                        self.outlines(step.stored).any(|o| o.times.is_some_and(|t| t.1 >= wanted));
                    if !later {
                        continue;
                    }
                    let events = self.events(engine, *step).await?;
                    // The last of the segment may belong to another timeline by then.
                    if let Some(inside) = events.iter().position(|e| Commit::of(e).time >= time) {
                        return Ok((at, inside));
                    }
                }
                Ok((steps.len(), 0))
            }
            Around::Xid(xid) => {
                for (at, step) in steps.iter().enumerate().rev() {
                    let possible = self
                        .outlines(step.stored)
                        .any(|o| o.xids.is_some_and(|(low, high)| (low..=high).contains(&xid.0)));
                    if !possible {
                        continue;
                    }
                    let events = self.events(engine, *step).await?;
                    let found = events
                        .iter()
                        .rposition(|e| matches!(e, PointEvent::Transaction(_, t) if t.xid == xid));
                    if let Some(inside) = found {
                        return Ok((at, inside));
                    }
                }
                Ok((steps.len(), 0))
            }
        }
    }
}
