//! What a restore is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use holdfast_postgres::TimelineId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::in_place::Placement;
use crate::error::{EngineError, Result};
use crate::target::Target;

/// What to restore, and to where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// The cluster.
    pub cluster: String,
    /// Where to stop.
    pub target: Target,
    /// Whether the target itself is left out.
    pub exclusive: bool,
    /// Along which timeline.
    pub timeline: TimelineChoice,
    /// The new data directory.
    pub destination: PathBuf,
    /// A given snapshot; else the newest that can reach the target.
    pub snapshot: Option<Uuid>,
    /// Go on although this host differs from the source in ways that were named.
    pub accept_host_differences: bool,
    /// Whether the destination is new, or a data directory whose place or files the copy takes.
    pub placement: Placement,
    /// Directories of their own for tablespaces, by oid; all others are placed inside the copy.
    #[serde(default)]
    pub tablespaces: BTreeMap<u32, PathBuf>,
}

/// Along which timeline to recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TimelineChoice {
    /// The newest that continues the snapshot's.
    #[default]
    Latest,
    /// The snapshot's own.
    Current,
    /// This one.
    Numbered(TimelineId),
}

impl std::str::FromStr for TimelineChoice {
    type Err = EngineError;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "latest" => Ok(Self::Latest),
            "current" => Ok(Self::Current),
            number => number.parse().map(Self::Numbered).map_err(|_| {
                EngineError::usage(
                    format!("{number:?} is no timeline"),
                    "Use latest, current or a number.",
                )
            }),
        }
    }
}

/// What to do once the target is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum AtTarget {
    /// Stay paused, open for reading.
    Pause,
    /// End recovery and take writes, on a timeline of the copy's own.
    #[default]
    Promote,
    /// Shut down at the target.
    Shutdown,
}

/// How to run a restore.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunOptions {
    /// What to restore, and to where.
    pub request: RestoreRequest,
    /// What to do at the target.
    pub at_target: AtTarget,
    /// Leave the private server running.
    pub start: bool,
    /// Write the files and stop: no replay, no proof.
    pub fetch_only: bool,
    /// Run exactly the plan of this hash.
    pub plan_hash: Option<String>,
}
