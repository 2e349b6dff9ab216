//! Going on with a restore that was interrupted, or whose store was away for too long.
//!
//! Nothing that the earlier run noted of its progress is believed: its server is stopped if it still
//! runs, and every block that stands there is compared by content before it is kept.

use tokio_util::sync::CancellationToken;

use super::begun::Begun;
use super::plan::Purpose;
use super::record::RestoreRecord;
use super::result::RestoreResult;
use super::unfinished::Unfinished;
use crate::Engine;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind, JobState};
use crate::server::private::blocking;

/// What resuming a restore came to.
#[derive(Debug)]
pub enum Resumed {
    /// It runs in another task or process, was paused, and goes on there.
    Continues,
    /// It was run to its end here.
    Ended(Box<RestoreResult>),
}

impl Engine {
    /// Lets a restore go on: one that is paused, in the process that runs it; one that was interrupted
    /// or failed and has kept what it wrote, here and to its end; one that was paused at its target and
    /// whose server is gone, by starting it again where it was.
    ///
    /// # Errors
    /// Refused when there is nothing to go on with; what the restore then fails with.
    pub async fn resume_restore(&self, job: JobId, cancel: CancellationToken) -> Result<Resumed> {
        let (summary, _) = self.job(job).await?;
        if summary.kind == JobKind::Rescue {
            return Err(rescue_never_goes_on(job, summary.state));
        }
        if summary.state == JobState::Running {
            return self.unpause_job(job).await.map(|()| Resumed::Continues);
        }
        let directory = self.home().jobs().join(job.to_string());
        if Unfinished::of(summary.state, &directory)?.is_some() {
            let engine = self.clone();
            let result = self
                .continue_job(job, cancel, |context| async move { engine.go_on(context).await })
                .await?;
            return Ok(Resumed::Ended(Box::new(result)));
        }
        let record = RestoreRecord::read(&self.home().jobs(), job)
            .map_err(|_| nothing_to_resume(summary.state))?;
        if record.location.is_running() && record.moving.is_none() || record.gate.is_none() {
            return Err(nothing_to_resume(summary.state));
        }
        let engine = self.clone();
        // A caller that goes away must not leave the copy half replayed.
        let reopened = tokio::spawn(async move { engine.reopen_gate(job, cancel).await });
        let result =
            reopened.await.map_err(|e| EngineError::Fault(format!("resuming failed: {e}")))??;
        Ok(Resumed::Ended(Box::new(result)))
    }

    /// The same in the background: what can be refused is refused at once.
    ///
    /// # Errors
    /// As [`Engine::resume_restore`], except for what the restore fails with: that is in the job.
    pub async fn start_resume(&self, job: JobId) -> Result<()> {
        let (summary, _) = self.job(job).await?;
        let directory = self.home().jobs().join(job.to_string());
        let goes_on_here = summary.kind != JobKind::Rescue
            && summary.state != JobState::Running
            && Unfinished::of(summary.state, &directory)?.is_some();
        if !goes_on_here {
            return self.resume_restore(job, CancellationToken::new()).await.map(drop);
        }
        let engine = self.clone();
        tokio::spawn(async move {
            if let Err(error) = engine.resume_restore(job, CancellationToken::new()).await {
                tracing::debug!(job = %job, %error, "a resumed restore ended with an error");
            }
        });
        Ok(())
    }

    async fn go_on(&self, job: JobContext) -> Result<RestoreResult> {
        let Some(unfinished) = Unfinished::read(&job.directory)? else {
            return Err(nothing_to_resume(JobState::Failed));
        };
        let run_as = self.run_as()?;
        {
            let (unfinished, run_as) = (unfinished.clone(), run_as.clone());
            blocking(move || unfinished.stop(&run_as)).await?;
        }
        let options = unfinished.options.clone();
        if unfinished.swapping.is_some() {
            let directory = options.request.destination.clone();
            let result = self.end_swap(&job, &unfinished, &directory).await?;
            let noted_in = job.directory.clone();
            job.once_recorded(move || Unfinished::forget(&noted_in));
            return Ok(result);
        }
        unfinished.require_ours()?;
        let prepared = tokio::select! {
            prepared = self.prepare(options.request.clone(), unfinished.pinned, Purpose::Resume) => prepared?,
            () = job.cancel.cancelled() => return Err(EngineError::Cancelled),
        };
        if prepared.end() != unfinished.end {
            return Err(EngineError::refused(
                "plan_drifted",
                format!(
                    "the target is at {} now, and was at {} when the restore began",
                    prepared.end(),
                    unfinished.end
                ),
                format!(
                    "The archive is another than it was. Discard it with `holdfast restore discard {}` and restore again.",
                    job.id
                ),
            ));
        }
        let directory = job.directory.clone();
        let begun = Begun { unfinished, directory, run_as, resumed: true, over: false };
        self.restore_from(job, prepared, &options, begun).await
    }
}

/// Restored again without the rescue, the copy would stay, and nobody would have the rows.
fn rescue_never_goes_on(job: JobId, state: JobState) -> EngineError {
    let hint = match state {
        JobState::Running => format!("Look at it with `holdfast jobs attach {job}`."),
        JobState::Succeeded => "It is done: `holdfast jobs show` has its result.".to_owned(),
        _ => format!(
            "Run the same `holdfast tables` again, with --review first when rows were to be merged: it tells which are \
             back. The next rescue removes the private copy that this one may have left; so does `holdfast restore \
             discard {job}`."
        ),
    };
    EngineError::refused(
        "rescue_not_resumable",
        format!("the job is a rescue of tables, which is {} and does not go on", state.as_str()),
        hint,
    )
}

fn nothing_to_resume(state: JobState) -> EngineError {
    EngineError::refused(
        "nothing_to_resume",
        format!("the restore is {} and has left nothing to go on with", state.as_str()),
        "Restore again.",
    )
}
