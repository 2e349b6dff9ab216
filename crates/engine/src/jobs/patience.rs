//! Waiting for a store that is away: a job asks again for a while, then ends with an error that can be
//! resumed.

use std::time::Duration;

use tokio::time::Instant;

use super::JobContext;
use crate::error::{EngineError, Outcome, Result};

/// How long a job waits, unless `HOLDFAST_STORE_PATIENCE` gives another number of seconds. Time asleep
/// does not count: the clock is one that stands still with the machine.
const PATIENCE: Duration = Duration::from_mins(15);
/// The first and the longest pause between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A store that was used for so long after it came back has been away anew, not still.
const ANEW: Duration = Duration::from_mins(6);

/// What is left of a job's patience with its store.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    since: Option<Instant>,
    tried: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(crate) fn new() -> Self {
        let seconds = std::env::var("HOLDFAST_STORE_PATIENCE")
            .ok()
            .and_then(|s| s.trim().parse().ok())
            .filter(|seconds| *seconds > 0);
        Self {
            limit: seconds.map_or(PATIENCE, Duration::from_secs),
            since: None,
            tried: None,
            pause: PAUSES.0,
        }
    }

    /// After a failure: waits when the store is away and there is patience left, and fails otherwise.
    ///
    /// # Errors
    /// `error` itself; [`EngineError::Cancelled`].
    pub(crate) async fn after(&mut self, job: &JobContext, error: EngineError) -> Result<()> {
        if error.outcome() != Outcome::Unreachable {
            return Err(error);
        }
        if self.tried.is_some_and(|at| at.elapsed() > ANEW) {
            *self = Self { limit: self.limit, ..Self::new() };
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.limit {
            return Err(error);
        }
        job.reporter.warning(format!("{}; trying again", error.to_object().message));
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = job.cancel.cancelled() => return Err(EngineError::Cancelled),
        }
        self.pause = (self.pause * 2).min(PAUSES.1);
        self.tried = Some(Instant::now());
        Ok(())
    }
}
