//! What a restore leaves for later commands: where its server is, what it keeps, where it is paused.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fetch::sync_directory;
use super::gate::Gate;
use super::in_place::{Placement, SetAside};
use super::place::Identity;
use super::replay::{Site, WorkDirectory};
use crate::error::{EngineError, Result};
use crate::jobs::JobId;
use crate::server::identity::RunAs;
use crate::server::private::ServerLocation;

/// A finished restore as later commands find it: in its job's directory.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RestoreRecord {
    pub(super) location: ServerLocation,
    pub(super) work_directory: PathBuf,
    /// Which directory the copy is.
    pub(super) copy: Identity,
    /// Where the copy was put.
    #[serde(default)]
    pub(super) placement: Placement,
    /// Directories of its own for tablespaces.
    #[serde(default)]
    pub(super) tablespaces: Vec<PathBuf>,
    /// What a restore in place keeps.
    #[serde(default)]
    pub(super) set_aside: Option<SetAside>,
    /// Where it is paused, until it is promoted.
    #[serde(default)]
    pub(super) gate: Option<Gate>,
    /// Where a step is heading: whatever happens in between, the copy can only go there or stay.
    #[serde(default)]
    pub(super) moving: Option<Gate>,
}

impl RestoreRecord {
    pub(super) fn path(jobs: &Path, job: JobId) -> PathBuf {
        Self::in_directory(&jobs.join(job.to_string()))
    }

    /// The same, in the job's directory.
    pub(super) fn in_directory(directory: &Path) -> PathBuf {
        directory.join("restore")
    }

    pub(super) fn write(&self, jobs: &Path, job: JobId) -> Result<()> {
        keep(&Self::path(jobs, job), self)
    }

    pub(super) fn read(jobs: &Path, job: JobId) -> Result<Self> {
        let path = Self::path(jobs, job);
        let text = std::fs::read(&path)
            .map_err(|_| EngineError::NotFound { what: "restore", name: job.to_string() })?;
        serde_json::from_slice(&text)
            .map_err(|e| EngineError::Fault(format!("{}: {e}", path.display())))
    }

    /// The copy with its server and its working files.
    pub(super) fn site(&self, run_as: RunAs) -> Site {
        Site {
            location: self.location.clone(),
            work: WorkDirectory(self.work_directory.clone()),
            run_as,
            listen: true,
        }
    }
}

/// Keeps a document in a job's directory: whatever happens, there is the new one or the one before.
///
/// # Errors
/// [`EngineError::File`].
pub(super) fn keep(path: &Path, document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(document).map_err(|e| EngineError::Fault(e.to_string()))?;
    let aside = path.with_extension("part");
    let written = std::fs::File::create(&aside).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &text)?;
        file.sync_all()
    });
    written.map_err(EngineError::file("write", &aside))?;
    std::fs::rename(&aside, path).map_err(EngineError::file("place", path))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Refuses when the restored server does not run.
pub(super) fn require_running(location: &ServerLocation) -> Result<()> {
    if location.is_running() {
        return Ok(());
    }
    Err(EngineError::refused(
        "server_not_running",
        "the restored server does not run",
        "It was stopped or discarded. Restore again with --start.",
    ))
}
