//! A restore that has not ended: what the next process needs to go on with it, or to take it back.
//!
//! It is written before anything else is, and removed last. Nothing in it says how far the restore has
//! come: that is seen from what stands there.

use std::path::{Path, PathBuf};

use holdfast_postgres::Lsn;
use serde::{Deserialize, Serialize};

use super::fetch;
use super::in_place::Placement;
use super::place::{self, Identity};
use super::record::{self, RestoreRecord};
use super::request::RunOptions;
use super::result::RestoreResult;
use crate::error::{EngineError, Result};
use crate::jobs::{JobId, JobState};
use crate::server::identity::RunAs;
use crate::server::private::ServerLocation;

/// An unfinished restore, in its job's directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Unfinished {
    /// What was asked for, with snapshot and timeline as they were planned.
    pub(super) options: RunOptions,
    /// The LSN that "latest" was pinned to.
    pub(super) pinned: Option<Lsn>,
    /// Where replay ends.
    pub(super) end: Lsn,
    /// Where the copy is made: beside the destination when it is to take its place.
    pub(super) directory: PathBuf,
    /// Which directory that is, once it is there.
    pub(super) copy: Option<Identity>,
    /// Whether that directory was there before.
    pub(super) existed: bool,
    /// Whose it was: user and group.
    pub(super) owner: Option<(u32, u32)>,
    /// The private server's own files.
    pub(super) work_directory: PathBuf,
    /// The private server, once there is one.
    pub(super) server: Option<ServerLocation>,
    /// The result of a proven copy that is about to change places.
    pub(super) swapping: Option<Box<RestoreResult>>,
    /// Whether the copy is only worked with: it is never gone on with, and removed in the end.
    #[serde(default)]
    pub(super) private: bool,
    /// Files outside the copy that are made of it, until they are whole.
    #[serde(default)]
    pub(super) files: Vec<PathBuf>,
}

fn path(directory: &Path) -> PathBuf {
    directory.join("unfinished")
}

/// Whether a job's directory holds an unfinished restore.
pub(crate) fn can_resume(directory: &Path) -> bool {
    path(directory).exists()
}

impl Unfinished {
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        record::keep(&path(directory), self)
    }

    /// The unfinished restore of a job, if there is one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>> {
        let path = path(directory);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|e| EngineError::Fault(format!("{}: {e}", path.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(EngineError::file("read", path)(e)),
        }
    }

    /// The unfinished restore of a job that is not running. One that has succeeded has none: where the
    /// process died before it could forget it, that is done now.
    pub(super) fn of(job: JobState, directory: &Path) -> Result<Option<Self>> {
        let unfinished = Self::read(directory)?;
        if job != JobState::Succeeded {
            return Ok(unfinished);
        }
        if let Some(unfinished) = unfinished {
            if !unfinished.server.as_ref().is_some_and(ServerLocation::is_running) {
                place::remove(&unfinished.work_directory)?;
            }
            Self::forget(directory)?;
        }
        Ok(None)
    }

    pub(super) fn forget(directory: &Path) -> Result<()> {
        place::remove(&path(directory))
    }

    /// Stops the private server, whoever started it, and removes its own files. Blocks.
    ///
    /// # Errors
    /// When the server does not stop.
    pub(super) fn stop(&self, run_as: &RunAs) -> Result<()> {
        if let Some(server) = &self.server {
            server.stop_at_once(run_as)?;
            place::remove(&server.socket_directory)?;
        }
        place::remove(&self.work_directory)
    }

    /// Takes `global/pg_control` away from a copy that was replayed and is not proven: nobody can start it
    /// before the restore has gone on, which puts it back.
    ///
    /// # Errors
    /// [`EngineError::File`].
    pub(super) fn prevent_start(&self) -> Result<()> {
        if self.server.is_none() || self.swapping.is_some() {
            return Ok(());
        }
        self.require_ours()?;
        fetch::take_control_away(&self.directory)
    }

    /// Refuses when somebody has put another directory where the restore was writing.
    ///
    /// # Errors
    /// [`EngineError::Refused`].
    pub(super) fn require_ours(&self) -> Result<()> {
        place::require_ours(&self.directory, self.copy)
    }

    /// Removes what was written, except over a directory that was there before: that has no undo.
    ///
    /// # Errors
    /// Refused where another directory stands; when something cannot be removed.
    fn take_back(&self, run_as: &RunAs) -> Result<()> {
        self.stop(run_as)?;
        self.files.iter().try_for_each(|file| place::remove(file))?;
        if self.swapping.is_some() || self.options.request.placement == Placement::Delta {
            return Ok(());
        }
        self.require_ours()?;
        let spaces = self.options.request.tablespaces.values();
        for emptied in spaces.chain(self.existed.then_some(&self.directory)) {
            empty(emptied)?;
        }
        if self.existed { Ok(()) } else { place::remove(&self.directory) }
    }

    /// Takes back what was written, with what the job's directory says of it. Blocks.
    ///
    /// # Errors
    /// When something cannot be removed: it stays noted.
    pub(super) fn discard(&self, directory: &Path, run_as: &RunAs) -> Result<()> {
        self.take_back(run_as)?;
        place::remove(&RestoreRecord::in_directory(directory))?;
        Self::forget(directory)
    }
}

/// Removes everything in a directory that is there.
pub(super) fn empty(directory: &Path) -> Result<()> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.flatten().try_for_each(|entry| place::remove(&entry.path())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(EngineError::file("read", directory)(e)),
    }
}

/// The failure of a restore whose files were kept, so that it can go on.
pub(super) fn resumable(job: JobId, error: EngineError) -> EngineError {
    EngineError::Resumable { job: job.to_string(), source: Box::new(error) }
}
