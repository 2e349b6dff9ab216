//! A restored copy that is only worked with, and removed in the end.

use std::path::PathBuf;

use super::begun::Begun;
use super::plan::Prepared;
use super::request::{AtTarget, RestoreRequest, RunOptions};
use super::result::RestoreResult;
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::jobs::JobContext;
use crate::server::private::{PrivateServer, ServerLocation, blocking};

/// A restored copy that is only worked with. Until it is removed its server is watched, and it is noted
/// as unfinished: when its process dies the server goes with it, and the copy can be discarded.
pub(crate) struct PrivateCopy {
    begun: Begun,
    server: PrivateServer,
    /// What the restore did.
    pub(crate) result: RestoreResult,
}

impl Engine {
    /// Restores to a copy that is only worked with: see [`PrivateCopy`].
    ///
    /// # Errors
    /// As [`Engine::restore`]; nothing is kept to go on with.
    pub(crate) async fn restore_privately(
        &self,
        job: JobContext,
        prepared: Prepared,
        request: RestoreRequest,
        at_target: AtTarget,
    ) -> Result<PrivateCopy> {
        let options =
            RunOptions { request, at_target, start: true, fetch_only: false, plan_hash: None };
        let begun = Begun::new(&job, &prepared, &options, self.run_as()?, true)?;
        let (result, server, begun) = self.restore_held(job, prepared, &options, begun).await?;
        let server =
            server.ok_or_else(|| EngineError::Fault("a private copy has no server".to_owned()))?;
        Ok(PrivateCopy { begun, server, result })
    }
}

impl PrivateCopy {
    /// Where its server is.
    pub(crate) fn location(&self) -> &ServerLocation {
        &self.server.location
    }

    /// Notes a file that is about to be made of the copy, to be removed with it.
    ///
    /// # Errors
    /// [`EngineError::File`] when it cannot be noted.
    pub(crate) fn note_file(&mut self, path: PathBuf) -> Result<()> {
        self.begun.unfinished.files.push(path);
        self.begun.unfinished.write(&self.begun.directory)
    }

    /// Stops the server and removes the copy. What cannot be removed stays noted, to be discarded.
    ///
    /// # Errors
    /// When the server does not stop, or files cannot be removed.
    pub(crate) async fn remove(mut self) -> Result<()> {
        self.begun.over = true;
        let run_as = self.begun.run_as.clone();
        let (unfinished, directory) = (self.begun.unfinished.clone(), self.begun.directory.clone());
        let discarded = {
            let run_as = run_as.clone();
            blocking(move || unfinished.discard(&directory, &run_as)).await
        };
        let stopped = self.server.stop(&run_as).await;
        discarded.and(stopped)
    }
}
