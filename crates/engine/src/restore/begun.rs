//! A restore under way, and what a failed or cancelled one takes back.

use std::path::{Path, PathBuf};

use super::configuration;
use super::in_place::{self, Placement};
use super::place::{self, Identity};
use super::plan::Prepared;
use super::replay::WorkDirectory;
use super::request::{RestoreRequest, RunOptions, TimelineChoice};
use super::result::RestoreResult;
use super::unfinished::Unfinished;
use crate::error::{EngineError, Outcome, Result};
use crate::jobs::JobContext;
use crate::retention::tombstone;
use crate::server::identity::RunAs;
use crate::server::private::{ServerLocation, blocking};

/// A restore under way, with what a failed or cancelled one takes back.
pub(super) struct Begun {
    pub(super) unfinished: Unfinished,
    /// The job's directory.
    pub(super) directory: PathBuf,
    pub(super) run_as: RunAs,
    /// Whether it goes on with what an earlier run has written.
    pub(super) resumed: bool,
    pub(super) over: bool,
}

impl Begun {
    /// Notes what is about to begin, before anything is written. A `private` copy is only worked with.
    pub(super) fn new(
        job: &JobContext,
        prepared: &Prepared,
        options: &RunOptions,
        run_as: RunAs,
        private: bool,
    ) -> Result<Self> {
        let asked = &prepared.request;
        let directory = match asked.placement {
            Placement::InPlace => in_place::staging(&asked.destination, job.id),
            Placement::New | Placement::Delta => asked.destination.clone(),
        };
        let request = RestoreRequest {
            snapshot: Some(prepared.snapshot.id),
            timeline: TimelineChoice::Numbered(prepared.timeline()),
            ..asked.clone()
        };
        let existed = directory.exists();
        let unfinished = Unfinished {
            options: RunOptions { request, plan_hash: None, ..options.clone() },
            pinned: prepared.pinned(),
            end: prepared.end(),
            copy: existed.then(|| Identity::of(&directory)).transpose()?,
            existed,
            owner: if existed { owner(&directory) } else { None },
            work_directory: WorkDirectory::beside(&directory, &job.id.to_string()).0,
            server: None,
            swapping: None,
            private,
            files: Vec::new(),
            directory,
        };
        unfinished.write(&job.directory)?;
        if let Some(parent) = unfinished.directory.parent() {
            std::fs::create_dir_all(parent).map_err(EngineError::file("create", parent))?;
        }
        let directory = job.directory.clone();
        Ok(Self { unfinished, directory, run_as, resumed: false, over: false })
    }

    /// Notes which directory the copy is made in, as soon as it is there.
    pub(super) fn note_copy(&mut self) -> Result<()> {
        self.unfinished.copy = Some(Identity::of(&self.unfinished.directory)?);
        self.unfinished.write(&self.directory)
    }

    /// Notes the private server before it is started, so that it can be found whatever happens.
    pub(super) fn note_server(&mut self, location: ServerLocation) -> Result<()> {
        self.unfinished.server = Some(location);
        self.unfinished.write(&self.directory)
    }

    /// A directory that was there before belongs to whom it belonged.
    pub(super) async fn give_back(&self) -> Result<()> {
        #[cfg(unix)]
        if let Some((uid, gid)) = self.unfinished.owner
            && self.unfinished.options.request.placement == Placement::Delta
        {
            let spaces = self.unfinished.options.request.tablespaces.values();
            let trees: Vec<_> = spaces.chain([&self.unfinished.directory]).cloned().collect();
            blocking(move || trees.iter().try_for_each(|tree| in_place::give_to(tree, uid, gid)))
                .await?;
        }
        Ok(())
    }

    /// Writes the source's configuration beside the copy, where it lay outside the data directory.
    pub(super) async fn keep_configuration(
        &mut self,
        prepared: &Prepared,
        destination: &Path,
        result: RestoreResult,
    ) -> Result<RestoreResult> {
        let files = prepared.snapshot.source.configuration.clone();
        if files.is_empty() || self.unfinished.private {
            return Ok(result);
        }
        let directory = configuration::directory_beside(destination);
        self.unfinished.files.push(directory.clone());
        self.unfinished.write(&self.directory)?;
        let run_as = self.run_as.clone();
        let kept = blocking(move || configuration::write(&directory, &files, &run_as)).await?;
        Ok(RestoreResult { configuration: Some(kept), ..result })
    }

    /// It ended well: the copy stays, and a server that runs keeps its own files too.
    pub(super) fn ended(&mut self, running: bool) -> Result<()> {
        self.over = true;
        if !running {
            place::remove(&self.unfinished.work_directory)?;
        }
        Unfinished::forget(&self.directory)
    }

    /// Whether what was written is worth keeping: a store that is away comes back, a mark for removal can be taken
    /// back, and what was overwritten has no undo.
    pub(super) fn is_kept_after(&self, error: &EngineError) -> bool {
        let returns = error.outcome() == Outcome::Unreachable && !self.unfinished.private;
        returns
            || self.unfinished.options.request.placement == Placement::Delta
            || self.resumed && tombstone::is_refusal(error)
            || self.unfinished.swapping.is_some()
    }

    /// Stops the server, and takes back what was written unless it is kept.
    pub(super) fn undo(&mut self, kept: bool) {
        if self.over {
            return;
        }
        self.over = true;
        let undone = if kept {
            self.unfinished.stop(&self.run_as).and_then(|()| self.unfinished.prevent_start())
        } else {
            self.unfinished.discard(&self.directory, &self.run_as)
        };
        if let Err(error) = undone {
            tracing::warn!(%error, "something of a restore was left behind");
        }
    }
}

impl Drop for Begun {
    /// The future was dropped: take back what can be taken back.
    fn drop(&mut self) {
        self.undo(self.is_kept_after(&EngineError::Cancelled));
    }
}

/// Who owns a directory.
fn owner(directory: &Path) -> Option<(u32, u32)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata(directory).ok().map(|found| (found.uid(), found.gid()))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}
