//! Taking a restore back: the copy that it made, or what an interrupted one has left.

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::in_place::{Placement, swap_unfinished};
use super::place;
use super::record::RestoreRecord;
use super::unfinished::{self, Unfinished};
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobState};
use crate::server::private::blocking;

impl Engine {
    /// Stops a restored server and removes the copy.
    ///
    /// # Errors
    /// Not found, refused while the restore runs, or when files cannot be removed.
    pub async fn discard_restore(&self, job: JobId) -> Result<()> {
        let (summary, _) = self.job(job).await?;
        if summary.state == JobState::Running {
            return Err(EngineError::refused(
                "job_running",
                "the restore is still running",
                format!("Cancel it first: `holdfast restore cancel {job}`."),
            ));
        }
        let taken = self.take_up(job, CancellationToken::new()).await?;
        if let Some(unfinished) = Unfinished::of(summary.state, &taken.context.directory)? {
            return self.discard_unfinished(job, &taken.context, unfinished).await;
        }
        let record = RestoreRecord::read(&self.home().jobs(), job)?;
        let directory = record.location.data_directory.display();
        let hint = match (record.placement, &record.set_aside) {
            (Placement::New, _) => return self.remove_restore(job).await,
            (Placement::InPlace, Some(aside)) if aside.is_copy => format!(
                "The old directory is back in its place. Remove the copy with `holdfast restore purge {job}`."
            ),
            (Placement::InPlace, Some(_)) => format!(
                "Put the old one back with `holdfast restore swap-back {job}`, or let the copy stay and remove the old \
                 one with `holdfast restore purge {job}`."
            ),
            (Placement::InPlace | Placement::Delta, _) => format!(
                "Nothing is left beside {directory}: it is the only one. Remove it by hand when it is not needed."
            ),
        };
        Err(EngineError::refused(
            "restored_in_place",
            format!(
                "{directory} is a data directory of yours, whose place or files the restore took"
            ),
            hint,
        ))
    }

    /// Takes back what an interrupted or failed restore has left.
    async fn discard_unfinished(
        &self,
        job: JobId,
        context: &JobContext,
        unfinished: Unfinished,
    ) -> Result<()> {
        if unfinished.swapping.is_some() {
            return Err(swap_unfinished(job));
        }
        let run_as = self.run_as()?;
        let directory = context.directory.clone();
        blocking(move || unfinished.discard(&directory, &run_as)).await
    }

    /// Stops the server of a restore and removes the copy, whatever its job does.
    pub(crate) async fn remove_restore(&self, job: JobId) -> Result<()> {
        let record = RestoreRecord::read(&self.home().jobs(), job)?;
        place::require_ours(&record.location.data_directory, Some(record.copy))?;
        record.location.stop(&self.run_as()?).await?;
        let jobs = self.home().jobs();
        let configuration =
            self.restore_result(job).await.ok().and_then(|result| result.configuration);
        blocking(move || {
            if let Some(kept) = configuration {
                place::remove(Path::new(&kept.directory))?;
            }
            record.tablespaces.iter().try_for_each(|space| unfinished::empty(space))?;
            place::remove(&record.location.data_directory)?;
            place::remove(&record.work_directory)?;
            place::remove(&RestoreRecord::path(&jobs, job))
        })
        .await?;
        self.note_stopped(job).await
    }
}
