//! Plans that were shown: kept by their hash, so that a run finds out whether an input has drifted since.

use std::path::PathBuf;

use holdfast_postgres::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Prepared, Purpose};
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::restore::destination::absolute;
use crate::restore::request::{RestoreRequest, TimelineChoice};

/// A stored plan: what a later run must find again.
#[derive(Debug, Serialize, Deserialize)]
struct StoredPlan {
    target: String,
    exclusive: bool,
    destination: PathBuf,
    snapshot: Uuid,
    timeline: TimelineId,
    /// The LSN that "latest" was pinned to.
    pinned: Option<Lsn>,
}

impl Engine {
    /// Keeps a plan for a later run.
    pub(super) fn keep_plan(&self, prepared: &Prepared) -> Result<()> {
        let stored = StoredPlan {
            target: prepared.plan.target.clone(),
            exclusive: prepared.plan.exclusive,
            destination: prepared.request.destination.clone(),
            snapshot: prepared.snapshot.id,
            timeline: prepared.timeline(),
            pinned: prepared.pinned(),
        };
        let directory = self.home().root().join("plans");
        std::fs::create_dir_all(&directory).map_err(EngineError::file("create", &directory))?;
        let path = directory.join(&prepared.plan.hash);
        let text = serde_json::to_vec(&stored).map_err(|e| EngineError::Fault(e.to_string()))?;
        std::fs::write(&path, text).map_err(EngineError::file("write", &path))?;
        Ok(())
    }

    /// Prepares the run of a plan that was shown before: every input is looked at again.
    pub(crate) async fn prepare_stored(
        &self,
        mut request: RestoreRequest,
        hash: &str,
    ) -> Result<Prepared> {
        let drift = |what: &str| {
            EngineError::refused(
                "plan_drifted",
                format!("the plan {hash} does not hold any more: {what}"),
                "Make a new plan with `holdfast restore plan`, look at it, and run that.",
            )
        };
        if hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(EngineError::usage(
                "a plan's hash has 64 hexadecimal digits",
                "It is the plan's \"hash\".",
            ));
        }
        let path = self.home().root().join("plans").join(hash);
        let text = std::fs::read(&path).map_err(|_| drift("it was not made on this machine"))?;
        let stored: StoredPlan =
            serde_json::from_slice(&text).map_err(|_| drift("its record is damaged"))?;
        if stored.target != request.target.to_string()
            || stored.exclusive != request.exclusive
            || stored.destination != absolute(&request.destination)?
        {
            return Err(drift("target or destination is another"));
        }
        if request.snapshot.is_some_and(|id| id != stored.snapshot) {
            return Err(drift("it begins with another snapshot"));
        }
        if matches!(request.timeline, TimelineChoice::Numbered(t) if t != stored.timeline) {
            return Err(drift("it goes along another timeline"));
        }
        request.snapshot = Some(stored.snapshot);
        request.timeline = TimelineChoice::Numbered(stored.timeline);
        let prepared = match self.prepare(request, stored.pinned, Purpose::Run).await {
            Err(EngineError::NotFound { what: "snapshot", name }) => {
                return Err(drift(&format!("its snapshot {name} is gone")));
            }
            Err(EngineError::Refused { code, message, .. })
                if code.starts_with("target_")
                    || code.starts_with("timeline_")
                    || code.starts_with("wal_") =>
            {
                return Err(drift(&message));
            }
            other => other?,
        };
        if prepared.plan.hash != hash {
            return Err(drift(
                "the archive, the snapshot or the server is another than when it was made",
            ));
        }
        Ok(prepared)
    }
}
