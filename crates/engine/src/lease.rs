//! Leases that jobs hold while they work: whoever removes something from a repository waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use holdfast_repository::{Lease, LeaseError, LeaseInfo, ObjectKind, Repository, RepositoryError};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::Engine;
use crate::error::{EngineError, Result};
use crate::home::machine_name;
use crate::jobs::{JobContext, JobId, JobKind};

/// How long a lease lasts whose holder is gone.
const TTL: Duration = Duration::from_mins(5);
/// How often it is renewed.
const RENEW: Duration = Duration::from_mins(1);
/// How soon a renewal that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// The lease of whoever marks, removes or takes back.
pub(crate) const COLLECTION: &str = "collection";
/// How long a job that only reads waits for whoever removes things.
const COLLECTION_PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks whether that has ended.
const COLLECTION_POLL: Duration = Duration::from_millis(500);
/// How long a job that only reads waits for its lease: it goes on without one.
const READER_PATIENCE: Duration = Duration::from_secs(20);
/// How long it is tried to end what killed jobs hold.
const BURIAL_PATIENCE: Duration = Duration::from_secs(10);

/// A lease that is renewed until it is given up. Of a process that is killed it ends by itself.
#[derive(Debug)]
pub(crate) struct HeldLease {
    lease: Arc<Mutex<Option<Lease>>>,
    /// It has ended at some time, and what it protects may have been removed.
    lapsed: Arc<AtomicBool>,
    since: DateTime<Utc>,
    /// It waited while somebody removed things.
    waited: bool,
    renewal: JoinHandle<()>,
}

impl HeldLease {
    /// Takes a lease.
    ///
    /// # Errors
    /// Refused while somebody else holds it; when the store cannot be written.
    async fn take(repository: &Repository, name: &str, holder: &str) -> Result<Self> {
        let lease = Lease::acquire(repository, name, TTL, holder).await.map_err(of_lease)?;
        let since = lease.since().unwrap_or_else(|| lease.until() - TTL);
        let lease = Arc::new(Mutex::new(Some(lease)));
        let lapsed = Arc::new(AtomicBool::new(false));
        let renewal = tokio::spawn(keep(Arc::clone(&lease), Arc::clone(&lapsed)));
        Ok(Self { lease, lapsed, since, waited: false, renewal })
    }

    /// The lease of a job that adds to a repository.
    ///
    /// # Errors
    /// As [`HeldLease::take`].
    pub(crate) async fn to_write(
        engine: &Engine,
        repository: &Repository,
        job: &JobContext,
        kind: JobKind,
    ) -> Result<Self> {
        end_dead(engine, repository, Some(job.id)).await;
        let (name, holder) = names(job, kind);
        Self::take(repository, &name, &holder).await
    }

    /// The lease of a job of which there is one at a time in a repository.
    ///
    /// # Errors
    /// As [`HeldLease::take`].
    pub(crate) async fn alone(
        engine: &Engine,
        repository: &Repository,
        job: &JobContext,
        kind: JobKind,
    ) -> Result<Self> {
        end_dead(engine, repository, Some(job.id)).await;
        let (_, holder) = names(job, kind);
        Self::take(repository, kind.as_str(), &holder).await
    }

    /// The lease of whoever marks, removes or takes back. `who` ends with the job's id where it is a job's.
    ///
    /// # Errors
    /// As [`HeldLease::take`].
    pub(crate) async fn to_collect(
        engine: &Engine,
        repository: &Repository,
        who: &str,
        job: Option<JobId>,
    ) -> Result<Self> {
        // Before anything is looked at: an agent removes nothing.
        repository.may_write("tombstones", ObjectKind::Tombstone)?;
        end_dead(engine, repository, job).await;
        Self::take(repository, COLLECTION, &on_this_machine(who)).await
    }

    /// The lease of a job that only reads; none where it may not be written, or not in time. Without one a
    /// removal does not wait for the job, which then fails on what is gone.
    pub(crate) async fn to_read(
        engine: &Engine,
        repository: &Repository,
        job: &JobContext,
        kind: JobKind,
    ) -> Option<Self> {
        // What was opened to be read is not written to.
        if !repository.is_certified() {
            job.reporter.log("goes on without a lease: the repository was opened to be read");
            return None;
        }
        end_dead(engine, repository, Some(job.id)).await;
        let (name, holder) = names(job, kind);
        let taken =
            tokio::time::timeout(READER_PATIENCE, Self::take(repository, &name, &holder)).await;
        match taken {
            Ok(Ok(mut lease)) => {
                lease.waited = wait_for_collection(repository, job).await;
                Some(lease)
            }
            Ok(Err(error)) => {
                job.reporter.log(format!("goes on without a lease: {error}"));
                None
            }
            Err(_) => {
                job.reporter.log("goes on without a lease: the store does not answer in time");
                None
            }
        }
    }

    /// Whether something may have been removed since its holder asked for it.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }

    /// Whether it has run out at some time.
    pub(crate) fn has_lapsed(&self) -> bool {
        self.lapsed.load(Ordering::Relaxed)
    }

    /// When it was taken, by the store's clock.
    pub(crate) fn since(&self) -> DateTime<Utc> {
        self.since
    }

    /// Renews it, and makes sure that it was held all the time.
    ///
    /// # Errors
    /// Refused when it was not: this machine slept, or could not reach the store for minutes.
    pub(crate) async fn check(&self) -> Result<()> {
        let mut lease = self.lease.lock().await;
        if let Some(lease) = lease.as_mut() {
            renew(lease, &self.lapsed).await.map_err(of_lease)?;
        }
        if self.has_lapsed() { Err(lapsed()) } else { Ok(()) }
    }

    /// Gives it up.
    pub(crate) async fn release(self) {
        // Not in the middle of a renewal, which would leave an object that nobody knows of.
        let mut held = self.lease.lock().await;
        self.renewal.abort();
        if let Some(lease) = held.take() {
            give_up(lease).await;
        }
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.renewal.abort();
        // Of a job that was cancelled, if there is still time for it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let lease = Arc::clone(&self.lease);
        runtime.spawn(async move {
            if let Some(lease) = lease.lock().await.take() {
                give_up(lease).await;
            }
        });
    }
}

/// Gives a lease up: of a job nothing is left, since nobody else takes its name.
async fn give_up(lease: Lease) {
    let given_up = match lease.name() {
        COLLECTION => lease.release().await,
        _ => lease.conclude().await,
    };
    if let Err(error) = given_up {
        tracing::info!(%error, "a lease ends by itself");
    }
}

/// Waits while somebody removes things, so that what is read is not taken away under the reader. Whoever removes
/// looks for leases again before each removal: it is not long. Says whether it had to wait.
async fn wait_for_collection(repository: &Repository, job: &JobContext) -> bool {
    let mut told = false;
    let deadline = tokio::time::Instant::now() + COLLECTION_PATIENCE;
    while tokio::time::Instant::now() < deadline && !job.cancel.is_cancelled() {
        match Lease::list(repository, COLLECTION).await {
            Ok(leases) if leases.iter().any(|lease| lease.alive) => {
                if !told {
                    job.reporter.log("waits while retention is applied to the repository");
                    told = true;
                }
                tokio::time::sleep(COLLECTION_POLL).await;
            }
            _ => return told,
        }
    }
    told
}

/// Whether a lease is a backup's: what that has stored is named by no manifest yet.
pub(crate) fn is_of_backup(lease: &LeaseInfo) -> bool {
    lease.name.strip_prefix(JobKind::Backup.as_str()).is_some_and(|rest| rest.starts_with('-'))
}

fn names(job: &JobContext, kind: JobKind) -> (String, String) {
    let (kind, id) = (kind.as_str(), job.id);
    // Another one each time: of a job that was killed and is resumed the old lease may still be alive.
    let attempt = uuid::Uuid::new_v4().simple();
    (format!("{kind}-{id}-{attempt}"), on_this_machine(&format!("{kind} {id}")))
}

/// What a holder calls itself.
fn on_this_machine(who: &str) -> String {
    format!("{who} on {}", machine_name())
}

/// The job of a machine of this name that holds a lease.
fn job_of(lease: &LeaseInfo) -> Option<JobId> {
    let who = lease.holder.strip_suffix(on_this_machine("").as_str())?;
    who.rsplit_once(' ')?.1.parse().ok()
}

/// Ends the leases of jobs of this machine that were killed, so that nobody waits for them. `asking` is about to take
/// its own, the only one it has here: what is there of it is of an earlier attempt.
async fn end_dead(engine: &Engine, repository: &Repository, asking: Option<JobId>) {
    let ended = tokio::time::timeout(BURIAL_PATIENCE, async {
        for lease in Lease::list(repository, "").await? {
            let Some(id) = job_of(&lease) else { continue };
            if asking != Some(id) && !engine.nobody_works_on(id).await {
                continue;
            }
            match lease.name.as_str() {
                COLLECTION => drop(Lease::end(repository, &lease).await?),
                _ => Lease::clear(repository, &lease).await?,
            }
        }
        Ok::<_, RepositoryError>(())
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "leases of killed jobs end by themselves"),
        Err(_) => tracing::info!("leases of killed jobs end by themselves: no answer in time"),
    }
}

async fn keep(lease: Arc<Mutex<Option<Lease>>>, lapsed: Arc<AtomicBool>) {
    let mut wait = RENEW;
    loop {
        tokio::time::sleep(wait).await;
        let mut lease = lease.lock().await;
        let Some(lease) = lease.as_mut() else { return };
        wait = match renew(lease, &lapsed).await {
            Ok(()) => RENEW,
            Err(error) => {
                tracing::warn!(%error, "a lease could not be renewed");
                RETRY
            }
        };
    }
}

/// Starts the lease's time anew, and notes when it had run out.
async fn renew(lease: &mut Lease, lapsed: &AtomicBool) -> Result<(), LeaseError> {
    let until = lease.until();
    let renewed = tokio::time::timeout(RENEW, lease.renew()).await.unwrap_or_else(|_| {
        let path = lease.name().to_owned();
        let source = format!("no answer within {} s", RENEW.as_secs()).into();
        Err(RepositoryError::Unreachable { operation: "renew a lease of", path, source }.into())
    });
    match renewed {
        Ok(()) => {
            // Some stores tell times in whole seconds.
            if lease.until() - TTL + chrono::TimeDelta::seconds(1) >= until {
                lapsed.store(true, Ordering::Relaxed);
            }
            Ok(())
        }
        Err(error) => {
            if matches!(error, LeaseError::Lost { .. }) {
                lapsed.store(true, Ordering::Relaxed);
            }
            Err(error)
        }
    }
}

fn lapsed() -> EngineError {
    EngineError::refused(
        "lease_lapsed",
        "this job's lease ran out: the machine slept, or the store could not be reached for minutes",
        "What the job relied on may have been removed meanwhile, so it stops. Run it again: what it has stored is not \
         stored twice.",
    )
}

fn of_lease(error: LeaseError) -> EngineError {
    match error {
        LeaseError::Held { holder, until } => EngineError::refused(
            "lease_held",
            format!("{holder} is at work on this; its lease ends at {until} unless it is renewed"),
            "Wait for it. If it was killed, its lease ends by itself at that time.",
        ),
        LeaseError::Lost { .. } => lapsed(),
        LeaseError::Repository(error) => error.into(),
        other => EngineError::Fault(other.to_string()),
    }
}
