//! Long work: identity, phases, a journal of numbered events on disk.
//!
//! Whoever wants to watch a job reads its journal from any event on, in this process or another;
//! closing and reopening a window loses nothing. The process that runs a job holds a lock on the
//! job's directory: a job that says "running" while nobody holds the lock was interrupted. Whoever
//! wants a job of another process to stop leaves a mark in its directory, which that process watches.

mod journal;
mod mark;
mod patience;
mod report;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use journal::{JobEvent, JobEventKind, JournalReader};
use mark::{Mark, Watch};
pub(crate) use patience::Patience;
pub use report::Reporter;

use crate::Engine;
use crate::error::{EngineError, ErrorObject, Outcome, Result};

/// A job's identity: a UUID of version 7, so that ids sort by time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ts_rs::TS,
)]
#[serde(transparent)]
pub struct JobId(#[ts(type = "string")] pub Uuid);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = EngineError;
    fn from_str(text: &str) -> Result<Self> {
        Uuid::parse_str(text)
            .map(JobId)
            .map_err(|_| EngineError::NotFound { what: "job", name: text.to_owned() })
    }
}

macro_rules! named {
    ($(#[$meta:meta])* $name:ident, $fallback:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vmeta])* $variant),+ }
        impl $name {
            /// The word for it, the same everywhere.
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
            pub(crate) fn parse(text: &str) -> Self { match text { $($text => Self::$variant,)+ _ => Self::$fallback } }
        }
    };
}

named! {
    /// What a job does.
    JobKind, Backup {
        /// Takes a base backup.
        Backup = "backup",
        /// Streams WAL into the repository.
        Archive = "archive",
        /// Restores to a point in time.
        Restore = "restore",
        /// Takes tables out of a point in time.
        Rescue = "rescue",
        /// Reads the repository back.
        Verify = "verify",
        /// Makes a bundle.
        Bundle = "bundle",
        /// Brings replicas of a repository up to date.
        Replication = "replication",
        /// Carries a repository into one with another key.
        Rekey = "rekey",
        /// Marks what retention lets go of, and removes what was marked.
        Retention = "retention",
        /// Runs the demo.
        Demo = "demo",
    }
}

named! {
    /// Where a job stands.
    JobState, Interrupted {
        /// A process works on it.
        Running = "running",
        /// It ended well.
        Succeeded = "succeeded",
        /// It ended with an error.
        Failed = "failed",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
        /// Its process ended without a word.
        Interrupted = "interrupted",
    }
}

/// A job in a list.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct JobSummary {
    /// Its identity.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// For which cluster.
    pub cluster: Option<String>,
    /// One line for a list.
    pub title: String,
    /// Where it stands.
    pub state: JobState,
    /// The phase it is in, while it runs.
    pub phase: Option<String>,
    /// When it began.
    #[ts(type = "string")]
    pub created_at: DateTime<Utc>,
    /// When it ended.
    #[ts(type = "string | null")]
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub error: Option<ErrorObject>,
    /// It runs, and does nothing until it is resumed.
    pub paused: bool,
    /// It did not end well, and `restore_resume` goes on with what it left.
    pub resumable: bool,
}

/// A running job's own end: report with it, watch its cancellation.
#[derive(Clone)]
pub struct JobContext {
    /// The job.
    pub id: JobId,
    /// Where progress goes.
    pub reporter: Reporter,
    /// Cancelled when somebody asks the job to stop.
    pub cancel: CancellationToken,
    /// The job's directory: journal, and whatever the job keeps.
    pub directory: PathBuf,
    /// Whether somebody asked the job to pause.
    pub(crate) paused: Arc<AtomicBool>,
    /// What is done once it is recorded that the job ended well.
    let_go: Arc<Mutex<Vec<LetGo>>>,
}

/// Gives up what a job has held until it was recorded.
type LetGo = Box<dyn FnOnce() -> Result<()> + Send>;

impl std::fmt::Debug for JobContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobContext").field("id", &self.id).finish_non_exhaustive()
    }
}

impl JobContext {
    /// Fails when the job was cancelled; called between steps.
    ///
    /// # Errors
    /// [`EngineError::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(EngineError::Cancelled) } else { Ok(()) }
    }

    /// The same job for a part of its work that is cancelled by itself.
    pub(crate) fn cancelled_by(&self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// Has `let_go` called once it is recorded that the job ended well, or could not be recorded: the work is
    /// done then all the same. When the job ends otherwise it is dropped without having been called: what it
    /// holds takes itself back.
    pub(crate) fn once_recorded(&self, let_go: impl FnOnce() -> Result<()> + Send + 'static) {
        self.held().push(Box::new(let_go));
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<LetGo>> {
        self.let_go.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether the job is to do nothing for now.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed) && !self.cancel.is_cancelled()
    }

    /// Blocks while the job is paused; for threads that may block.
    pub fn wait_while_paused(&self) {
        while self.is_paused() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// The jobs that run in this process.
#[derive(Debug, Default)]
pub(crate) struct RunningJobs {
    cancel: Mutex<std::collections::HashMap<JobId, CancellationToken>>,
}

impl RunningJobs {
    fn tokens(
        &self,
    ) -> std::sync::MutexGuard<'_, std::collections::HashMap<JobId, CancellationToken>> {
        self.cancel.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn cancel_all(&self) {
        for token in self.tokens().values() {
            token.cancel();
        }
    }
}

/// Holds the lock of a job's directory, and watches for a mark in it, for as long as the job runs here.
#[derive(Debug)]
struct RunLock {
    #[allow(dead_code, reason = "held, not read")]
    lock: File,
    #[allow(dead_code, reason = "held, not read")]
    watch: Watch,
}

/// A job that was taken up after its end.
#[derive(Debug)]
pub(crate) struct TakenUp {
    /// The job's own end.
    pub(crate) context: JobContext,
    engine: Engine,
    _lock: File,
}

impl TakenUp {
    /// Notes in the journal that the work is done.
    pub(crate) fn finished(&self) {
        self.context.reporter.ended(JobEventKind::Finished, None);
    }
}

impl Drop for TakenUp {
    fn drop(&mut self) {
        self.engine.running().tokens().remove(&self.context.id);
    }
}

fn lock_file(directory: &Path) -> Result<File> {
    let path = directory.join("lock");
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&path)
        .map_err(EngineError::file("open", &path))
}

/// Takes the lock of a job that nobody works on.
async fn lock_of_ended(id: JobId, directory: &Path) -> Result<File> {
    let lock = lock_file(directory)?;
    // Somebody who only looks holds it for a moment.
    let mut tries = 0;
    while lock.try_lock().is_err() {
        tries += 1;
        if tries > 20 {
            return Err(EngineError::refused(
                "job_running",
                "the job runs, or somebody works on what it left",
                format!("Look at it with `holdfast jobs attach {id}`, or cancel it first."),
            ));
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    Ok(lock)
}

/// Whether a process holds the lock of a job's directory; none where it cannot be told. Looking takes a shared lock, so
/// that two who look at once do not take each other for the job.
fn lock_is_held(directory: &Path) -> Option<bool> {
    match File::open(directory.join("lock")) {
        Ok(lock) => match lock.try_lock_shared() {
            Ok(()) => Some(false),
            Err(std::fs::TryLockError::WouldBlock) => Some(true),
            Err(std::fs::TryLockError::Error(_)) => None,
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(false),
        Err(_) => None,
    }
}

/// The same; what cannot be told is shown as not held.
fn is_held(directory: &Path) -> bool {
    lock_is_held(directory).unwrap_or_default()
}

impl Engine {
    /// Starts a job record: directory, lock, journal, catalog row.
    async fn begin_job(
        &self,
        kind: JobKind,
        cluster: Option<&str>,
        title: String,
        cancel: CancellationToken,
    ) -> Result<(JobContext, JobSummary, RunLock)> {
        let id = JobId(Uuid::now_v7());
        let directory = self.home().jobs().join(id.to_string());
        std::fs::create_dir_all(&directory).map_err(EngineError::file("create", &directory))?;
        let lock = lock_file(&directory)?;
        lock.try_lock()
            .map_err(|e| EngineError::Fault(format!("a new job's lock is taken: {e}")))?;
        let summary = JobSummary {
            id,
            kind,
            cluster: cluster.map(ToOwned::to_owned),
            title,
            state: JobState::Running,
            phase: None,
            created_at: Utc::now(),
            finished_at: None,
            error: None,
            paused: false,
            resumable: false,
        };
        if let Err(error) = self.catalog().insert_job(&summary).await {
            // Without a row nobody would ever find what is in it.
            let _ = std::fs::remove_dir_all(&directory);
            return Err(error);
        }
        let (context, lock) = self.run_from(id, directory, lock, cancel)?;
        Ok((context, summary, lock))
    }

    /// What a job that begins, or goes on, works with.
    fn run_from(
        &self,
        id: JobId,
        directory: PathBuf,
        lock: File,
        cancel: CancellationToken,
    ) -> Result<(JobContext, RunLock)> {
        let reporter = Reporter::open(id, &directory, self.progress_listener())?;
        self.running().tokens().insert(id, cancel.clone());
        let paused = Arc::new(AtomicBool::new(false));
        let watch =
            Watch::start(directory.clone(), cancel.clone(), paused.clone(), reporter.clone());
        let let_go = Arc::default();
        let context = JobContext { id, reporter, cancel, directory, paused, let_go };
        Ok((context, RunLock { lock, watch }))
    }

    /// Goes on with a job that was interrupted or failed, under its own name.
    ///
    /// # Errors
    /// As [`Engine::run_job`]; refused while the job runs.
    pub(crate) async fn continue_job<T, F>(
        &self,
        id: JobId,
        cancel: CancellationToken,
        work: impl FnOnce(JobContext) -> F,
    ) -> Result<T>
    where
        T: Serialize,
        F: Future<Output = Result<T>>,
    {
        let mut summary = self.catalog().job(id).await?;
        let directory = self.home().jobs().join(id.to_string());
        let lock = lock_of_ended(id, &directory).await?;
        for mark in [Mark::Cancel, Mark::Pause] {
            mark.take_away(&directory)?;
        }
        self.catalog().reopen_job(id).await?;
        summary.error = None;
        let (context, lock) = self.run_from(id, directory, lock, cancel)?;
        context.reporter.log("resumed");
        self.conclude_job(context.clone(), summary, lock, work(context).await).await
    }

    /// Runs `work` as a job to its end. The future may be dropped: the job then counts as
    /// interrupted once its lock is gone.
    ///
    /// # Errors
    /// What `work` fails with, after it was recorded.
    pub async fn run_job<T, F>(
        &self,
        kind: JobKind,
        cluster: Option<&str>,
        title: String,
        cancel: CancellationToken,
        work: impl FnOnce(JobContext) -> F,
    ) -> Result<T>
    where
        T: Serialize,
        F: Future<Output = Result<T>>,
    {
        let (context, summary, lock) = self.begin_job(kind, cluster, title, cancel).await?;
        self.conclude_job(context.clone(), summary, lock, work(context).await).await
    }

    /// Starts `work` as a job in the background and returns its id at once.
    ///
    /// # Errors
    /// When the job cannot be recorded; what `work` fails with is in the job.
    pub async fn start_job<T, F>(
        &self,
        kind: JobKind,
        cluster: Option<&str>,
        title: String,
        work: impl FnOnce(JobContext) -> F + Send + 'static,
    ) -> Result<JobId>
    where
        T: Serialize + Send,
        F: Future<Output = Result<T>> + Send,
    {
        let (context, summary, lock) =
            self.begin_job(kind, cluster, title, CancellationToken::new()).await?;
        let engine = self.clone();
        let id = context.id;
        tokio::spawn(async move {
            // A panic in the work must be recorded like any other failure.
            let work = std::panic::AssertUnwindSafe(work(context.clone()));
            let outcome = futures_util::FutureExt::catch_unwind(work)
                .await
                .unwrap_or_else(|panic| Err(EngineError::Fault(panic_message(&*panic))));
            if let Err(error) = engine.conclude_job(context, summary, lock, outcome).await {
                tracing::debug!(job = %id, error = %error, "job ended with an error");
            }
        });
        Ok(id)
    }

    async fn conclude_job<T: Serialize>(
        &self,
        context: JobContext,
        mut summary: JobSummary,
        lock: RunLock,
        outcome: Result<T>,
    ) -> Result<T> {
        summary.finished_at = Some(Utc::now());
        let mut result = None;
        let (event, message) = match &outcome {
            Ok(value) => {
                summary.state = JobState::Succeeded;
                result = serde_json::to_value(value).ok();
                (JobEventKind::Finished, None)
            }
            Err(error) if error.outcome() == Outcome::Cancelled => {
                summary.state = JobState::Cancelled;
                summary.error = Some(EngineError::Cancelled.to_object());
                (JobEventKind::Cancelled, Some("cancelled".to_owned()))
            }
            Err(error) => {
                summary.state = JobState::Failed;
                let object = error.to_object();
                let message = object.message.clone();
                summary.error = Some(object);
                (JobEventKind::Failed, Some(message))
            }
        };
        // The catalog first: whoever has read the journal to its end then finds the job ended.
        let recorded = self.catalog().finish_job(&summary, result.as_ref()).await;
        // Before anybody else may take up the job. What is dropped here takes itself back, which blocks.
        let held = std::mem::take(&mut *context.held());
        let (id, well) = (context.id, outcome.is_ok());
        let given_up = tokio::task::spawn_blocking(move || {
            for let_go in held {
                if well && let Err(error) = let_go() {
                    tracing::warn!(job = %id, %error, "something of the job was left behind");
                }
            }
        });
        if let Err(error) = given_up.await {
            tracing::warn!(job = %id, %error, "something of the job was left behind");
        }
        context.reporter.ended(event, message);
        self.running().tokens().remove(&context.id);
        drop(lock);
        let value = outcome?;
        recorded?;
        Ok(value)
    }

    /// Takes up a job that has ended, for more work on what it left: its lock is held, and its journal
    /// goes on, until what is returned is dropped.
    ///
    /// # Errors
    /// [`EngineError::NotFound`]; refused while somebody works on it.
    pub(crate) async fn take_up(&self, id: JobId, cancel: CancellationToken) -> Result<TakenUp> {
        self.catalog().job(id).await?;
        let directory = self.home().jobs().join(id.to_string());
        let lock = lock_of_ended(id, &directory).await?;
        let reporter = Reporter::open(id, &directory, self.progress_listener())?;
        self.running().tokens().insert(id, cancel.clone());
        let context = JobContext {
            id,
            reporter,
            cancel,
            directory,
            paused: Arc::default(),
            let_go: Arc::default(),
        };
        Ok(TakenUp { context, engine: self.clone(), _lock: lock })
    }

    /// Waits until no job of this process runs any more, at most `limit`.
    pub async fn wait_for_jobs(&self, limit: std::time::Duration) {
        let idle = async {
            while !self.running().tokens().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let _ = tokio::time::timeout(limit, idle).await;
    }

    /// The newest jobs, newest first; each state checked against its lock.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>> {
        let mut jobs = self.catalog().jobs().await?;
        for job in &mut jobs {
            self.check_alive(job);
        }
        Ok(jobs)
    }

    /// One job with its result.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is none of that id.
    pub async fn job(&self, id: JobId) -> Result<(JobSummary, Option<serde_json::Value>)> {
        let mut job = self.catalog().job(id).await?;
        self.check_alive(&mut job);
        Ok((job, self.catalog().job_result(id).await?))
    }

    /// Whether it is certain that nobody works on a job of this home, whatever was recorded of it. One that is not in
    /// the catalog is somebody else's.
    pub(crate) async fn nobody_works_on(&self, id: JobId) -> bool {
        self.catalog().job(id).await.is_ok()
            && !self.running().tokens().contains_key(&id)
            && lock_is_held(&self.home().jobs().join(id.to_string())) == Some(false)
    }

    /// Reads a job's journal from event `from_seq` on.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when there is no such job.
    pub async fn attach(&self, id: JobId, from_seq: u64) -> Result<JournalReader> {
        self.catalog().job(id).await?;
        Ok(JournalReader::new(self.home().jobs().join(id.to_string()), from_seq))
    }

    /// Asks a job to stop. A job of another process gets a mark that its process watches.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when it does not run any more.
    pub async fn cancel_job(&self, id: JobId) -> Result<()> {
        let job = self.running_job(id, "cancelled").await?;
        if let Some(token) = self.running().tokens().get(&job.id) {
            token.cancel();
            return Ok(());
        }
        Mark::Cancel.leave(&self.home().jobs().join(id.to_string()))
    }

    /// Asks a restore to pause: it fetches and feeds nothing more until it is resumed. What is replaying
    /// pauses at the next segment of WAL.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when it does not run, or is a job that cannot pause.
    pub async fn pause_job(&self, id: JobId) -> Result<()> {
        let job = self.running_job(id, "paused").await?;
        if job.kind != JobKind::Restore {
            return Err(EngineError::refused(
                "job_cannot_pause",
                format!("a running {} cannot pause", job.kind.as_str()),
                match job.kind {
                    JobKind::Backup => {
                        "A backup has no pause: the server keeps WAL for it, and ends it when it has to wait. Cancel it and \
                         run it again: nothing is stored twice."
                    }
                    JobKind::Archive => {
                        "Cancel it and start it again: the slot keeps the WAL at the server meanwhile. Watch its disk."
                    }
                    _ => "Cancel it and run it again.",
                },
            ));
        }
        Mark::Pause.leave(&self.home().jobs().join(id.to_string()))
    }

    /// Lets a paused job go on.
    ///
    /// # Errors
    /// [`EngineError::Refused`] when it does not run, or is not paused.
    pub async fn unpause_job(&self, id: JobId) -> Result<()> {
        self.running_job(id, "resumed").await?;
        let directory = self.home().jobs().join(id.to_string());
        if !Mark::Pause.is_left(&directory) {
            return Err(EngineError::refused(
                "job_running",
                "the job runs and is not paused",
                format!("Look at it with `holdfast jobs attach {id}`."),
            ));
        }
        Mark::Pause.take_away(&directory)
    }

    async fn running_job(&self, id: JobId, what: &str) -> Result<JobSummary> {
        let (job, _) = self.job(id).await?;
        if job.state == JobState::Running {
            return Ok(job);
        }
        Err(EngineError::refused(
            "job_not_running",
            format!("the job is {}", job.state.as_str()),
            if job.resumable {
                format!(
                    "`holdfast restore resume {id}` goes on with it, `holdfast restore discard {id}` removes what it left."
                )
            } else {
                format!("Only a running job can be {what}.")
            },
        ))
    }

    fn check_alive(&self, job: &mut JobSummary) {
        let directory = self.home().jobs().join(job.id.to_string());
        if job.state == JobState::Running {
            if self.running().tokens().contains_key(&job.id) || is_held(&directory) {
                job.phase = JournalReader::last_phase(&directory);
                job.paused = Mark::Pause.is_left(&directory);
            } else {
                job.state = JobState::Interrupted;
            }
        }
        job.resumable = job.kind == JobKind::Restore
            && !matches!(job.state, JobState::Running | JobState::Succeeded)
            && crate::restore::can_resume(&directory);
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the job panicked".to_owned())
}

/// Called for every event of every job of this process; the command prints them.
pub type ProgressListener = Arc<dyn Fn(&JobEvent) + Send + Sync>;
