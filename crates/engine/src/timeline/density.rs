//! Commits per span of time, exact where it shows and from the outlines elsewhere.

use holdfast_postgres::PgTimestamp;

use super::history::{Freshness, History};
use super::{TimeSpan, Way};
use crate::Engine;
use crate::archive::{PointEvent, TransactionKind};
use crate::error::Result;
use crate::points::Density;

/// The most buckets a density has.
const BUCKET_LIMIT: usize = 2000;

impl Engine {
    /// Commits along `way` counted in `buckets` equal spans of what is shown.
    ///
    /// A commit is counted in its own bucket, or in a neighbouring one when its segment's outline is finer
    /// than a bucket; none is left out or counted twice.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn density(
        &self,
        name: &str,
        shown: TimeSpan,
        buckets: usize,
        way: Way,
        freshness: Freshness,
    ) -> Result<Density> {
        let cluster = self.cluster(name).await?;
        let history = self.history(&cluster, freshness).await?;
        history.density(self, shown, buckets, way).await
    }
}

/// Counts in equal spans of time.
struct Buckets {
    from: i64,
    to: i64,
    counts: Vec<u32>,
}

impl Buckets {
    fn add(&mut self, time: i64, count: u32) {
        if time < self.from || time >= self.to {
            return;
        }
        let offset = i128::from(time) - i128::from(self.from);
        let span = i128::from(self.to) - i128::from(self.from);
        let bucket = usize::try_from(offset * self.counts.len() as i128 / span).unwrap_or(0);
        if let Some(counted) = self.counts.get_mut(bucket) {
            *counted = counted.saturating_add(count);
        }
    }

    fn width(&self) -> i64 {
        (self.to - self.from) / i64::try_from(self.counts.len().max(1)).unwrap_or(1)
    }
}

impl History {
    #[allow(clippy::cast_precision_loss, reason = "positions on a drawing")]
    pub(super) async fn density(
        &self,
        engine: &Engine,
        shown: TimeSpan,
        buckets: usize,
        way: Way,
    ) -> Result<Density> {
        let TimeSpan { from, to } = shown;
        let begin = PgTimestamp::from_chrono(from).0;
        let mut counted = Buckets {
            from: begin,
            to: PgTimestamp::from_chrono(to).0.max(begin.saturating_add(1)),
            counts: vec![0; buckets.clamp(1, BUCKET_LIMIT)],
        };
        for step in self.steps(&self.legs(way)?) {
            let cut = step.leg.to.is_some_and(|end| end < step.stored.end());
            let pieces: Vec<_> = self.outlines(step.stored).collect();
            let shown = pieces.iter().filter_map(|o| o.commit_times);
            if !shown.clone().any(|(a, b)| b.0 >= counted.from && a.0 < counted.to) {
                continue;
            }
            // A bin within one bucket, or nearly: its middle says where it belongs. Coarser bins would
            // show, and several pieces may say the same twice.
            let fine = pieces.len() == 1
                && !cut
                && pieces.iter().all(|o| o.bin_width() <= counted.width() / 2);
            if fine {
                for outline in pieces {
                    let Some((first, last)) = outline.commit_times else { continue };
                    let bins = outline.bins.len() as i128;
                    for (number, count) in outline.bins.iter().enumerate() {
                        let span = i128::from(last.0) - i128::from(first.0);
                        let middle = (2 * number as i128 + 1) * span / (2 * bins);
                        let time = i128::from(first.0) + middle;
                        counted.add(i64::try_from(time).unwrap_or(i64::MAX), *count);
                    }
                }
                continue;
            }
            for event in self.events(engine, step).await? {
                if let PointEvent::Transaction(_, end) = event
                    && end.kind == TransactionKind::Commit
                {
                    counted.add(end.time.0, 1);
                }
            }
        }
        let seconds = (counted.to - counted.from) as f64 / 1e6;
        Ok(Density {
            from,
            to,
            bucket_seconds: seconds / counted.counts.len() as f64,
            counts: counted.counts,
        })
    }
}
