//! Replication: the same repository in other places.
//!
//! Where replicas are is a document in the repository, so that whoever knows one place knows them all. A
//! replica is a repository: restored from, or attached in place of the one that is lost, with the same keys.

pub(crate) mod places;
mod score;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use holdfast_repository::{
    Behind, Replica, ReplicaOptions, Replicated, Repository, RepositoryUrl, Store,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{EngineError, ErrorObject, Outcome, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::lease::HeldLease;
use crate::repository::answers;
use crate::retention::{LocksRenewed, locks, tombstone};
use crate::{Engine, RepositorySummary};
pub use places::ReplicaPlace;
pub use score::Score;

/// What is to be brought up to date.
#[derive(Debug, Clone)]
pub struct ReplicationRequest {
    /// Whose repository. All of it is replicated: clusters share what they have in common.
    pub cluster: String,
    /// Where to; every known place when none is named. One that is not known becomes known.
    pub to: Option<String>,
    /// Bytes a second that may be sent; no limit when none is given.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// How far a replica is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Lag {
    /// Objects that it lacks.
    #[ts(type = "number")]
    pub objects: u64,
    /// Their bytes.
    #[ts(type = "number")]
    pub bytes: u64,
    /// The age of the oldest of them, in seconds: what was stored before is in the replica. 0 when it lacks
    /// nothing.
    #[ts(type = "number")]
    pub seconds: u64,
}

impl Lag {
    fn of(behind: Behind, now: DateTime<Utc>) -> Self {
        let age = behind.since.map_or(0, |since| (now - since).num_seconds().max(0));
        Self {
            objects: behind.objects,
            bytes: behind.bytes,
            seconds: u64::try_from(age).unwrap_or_default(),
        }
    }
}

/// What was not replicated, because it is damaged or needs what is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct HeldBack {
    /// Which object.
    pub object: String,
    /// Why.
    pub message: String,
}

/// What bringing one replica up to date came to.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ReplicaResult {
    /// Where it is.
    pub url: String,
    /// It has all that was in the repository when this began, and no damage was found.
    pub ok: bool,
    /// Objects that were copied and read back.
    #[ts(type = "number")]
    pub objects: u64,
    /// Their bytes.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Objects that were removed from it: key slots that were closed, parts of WAL segments that it has whole,
    /// what retention has removed from the repository.
    #[ts(type = "number")]
    pub removed: u64,
    /// Objects that retention has removed from the repository and that the replica's store locks for a while yet.
    #[serde(default)]
    #[ts(type = "number")]
    pub locked: u64,
    /// What was done about the locks of what is needed; null where the replica's store has no rule that locks what
    /// is put, or could not be asked.
    #[serde(default)]
    pub locks: Option<LocksRenewed>,
    /// What was not copied.
    pub held_back: Vec<HeldBack>,
    /// What it lacks now; null when that is not known.
    pub lag: Option<Lag>,
    /// Objects that it has and the repository lacks: somebody writes to it, or the repository has lost them.
    /// Key slots are neither added nor removed then.
    #[ts(type = "number")]
    pub ahead: u64,
    /// How long it took.
    pub seconds: f64,
    /// Why it could not be brought up to date.
    pub error: Option<ErrorObject>,
    #[serde(skip)]
    #[ts(skip)]
    outcome: Option<Outcome>,
}

/// What a replication came to.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ReplicationResult {
    /// The job.
    pub job: String,
    /// The repository.
    pub repository: String,
    /// Every replica is up to date.
    pub ok: bool,
    /// Each of them.
    pub replicas: Vec<ReplicaResult>,
}

impl ReplicationResult {
    /// How a command ends when a replica is not up to date.
    pub fn outcome(&self) -> Option<Outcome> {
        let replica = self.replicas.iter().find(|replica| !replica.ok)?;
        Some(replica.outcome.unwrap_or(Outcome::Integrity))
    }
}

/// Where a replica stands.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ReplicaState {
    /// Where it is.
    pub url: String,
    /// Since when it is known.
    #[ts(type = "string")]
    pub added_at: DateTime<Utc>,
    /// How far it is behind; null when that cannot be told.
    pub lag: Option<Lag>,
    /// Why it cannot be told.
    pub error: Option<ErrorObject>,
}

impl Engine {
    /// Brings replicas of a cluster's repository up to date.
    ///
    /// # Errors
    /// Refused where something else is; when the repository cannot be listed; what went wrong with the only
    /// replica. With several, each tells for itself.
    pub async fn replicate(
        &self,
        request: ReplicationRequest,
        cancel: CancellationToken,
    ) -> Result<ReplicationResult> {
        let cluster = self.cluster(&request.cluster).await?;
        let (engine, title) = (self.clone(), title(&request)?);
        self.run_job(JobKind::Replication, Some(&cluster.name), title, cancel, |job| async move {
            engine.replicate_in(&job, &request).await
        })
        .await
    }

    /// The same in the background.
    ///
    /// # Errors
    /// Usage for an address that is none; when the job cannot be recorded.
    pub async fn start_replication(&self, request: ReplicationRequest) -> Result<JobId> {
        let cluster = self.cluster(&request.cluster).await?;
        let (engine, title) = (self.clone(), title(&request)?);
        self.start_job(JobKind::Replication, Some(&cluster.name), title, |job| async move {
            engine.replicate_in(&job, &request).await
        })
        .await
    }

    async fn replicate_in(
        &self,
        job: &JobContext,
        request: &ReplicationRequest,
    ) -> Result<ReplicationResult> {
        let cluster = self.cluster(&request.cluster).await?;
        let (summary, repository) = self.repository_by_id(cluster.repository).await?;
        repository.must_read("replicating")?;
        let lease = HeldLease::to_read(self, &repository, job, JobKind::Replication).await;
        let outcome = self.replicate_held(job, request, summary, &repository).await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        outcome
    }

    async fn replicate_held(
        &self,
        job: &JobContext,
        request: &ReplicationRequest,
        summary: RepositorySummary,
        repository: &Repository,
    ) -> Result<ReplicationResult> {
        let known = self.other_places(&summary, repository).await;
        // A place that is named does not depend on what is known of others.
        let (known, to) = if let Some(url) = &request.to {
            (known.unwrap_or_default(), vec![places::absolute(url)?])
        } else {
            let known = known?;
            let to = known.iter().map(|place| RepositoryUrl::parse(&place.url));
            let to = to.collect::<Result<_, _>>()?;
            (known, to)
        };
        if to.is_empty() {
            return Err(EngineError::refused(
                "no_replica",
                format!("no replica of {} is known", summary.url),
                "Name a place with --to URL: a folder, s3://, gs:// or az://. From then on it is known.",
            ));
        }
        let marked = tombstone::readable(self.catalog(), repository).await?;
        let removed = Arc::new(tombstone::removed_by(&marked));
        let options = ReplicaOptions::default()
            .with_bytes_per_second(request.bytes_per_second)
            .with_removed(removed);
        let only = to.len() == 1;
        let mut replicas = Vec::new();
        for url in to {
            let began = Instant::now();
            let is_known = known.iter().any(|place| place.url == url.to_string());
            let outcome = async {
                let store = store_of(&summary, &url).await?;
                if request.to.is_none() && store.list("").await?.is_empty() {
                    return Err(EngineError::refused(
                        "replica_missing",
                        format!("nothing is at {url}, where a replica was"),
                        "Is the disk mounted? Name the place with --to to make the replica anew.",
                    ));
                }
                let replica = Replica::open(repository, store.clone()).await?;
                if !is_known {
                    // Before it is known: a known place at which nothing is has lost something.
                    replica.begin(&job.cancel).await?;
                    places::add(repository, &url).await?;
                }
                job.reporter.log(format!("replicating to {url}"));
                job.reporter.phase("copying", Some("bytes"), None);
                let progress = |now: holdfast_repository::ReplicaProgress| {
                    job.reporter.total(Some(now.bytes_total));
                    job.reporter.done(now.bytes_done);
                };
                let done = replica.update(options.clone(), &progress, &job.cancel).await?;
                if let Some(holder) = &done.waiting {
                    job.reporter.log(format!(
                        "what retention has removed stays in {url} for now: {holder} may be reading it"
                    ));
                }
                let locks = locks::renew(job, &store, &marked, Utc::now()).await;
                Ok((done, locks))
            }
            .await;
            match outcome {
                Ok((done, locks)) => replicas.push(result_of(&url, done, locks, began)),
                Err(error @ EngineError::Cancelled) => return Err(error),
                Err(error) if only => return Err(error),
                Err(error) => {
                    job.reporter.log(format!("{url}: {error}"));
                    replicas.push(failed(&url, &error, began));
                }
            }
        }
        Ok(ReplicationResult {
            job: job.id.to_string(),
            repository: summary.url,
            ok: replicas.iter().all(|replica| replica.ok),
            replicas,
        })
    }

    /// The replicas of a cluster's repository, and how far each is behind.
    ///
    /// # Errors
    /// When the repository cannot be read. What is wrong with a replica is told with it.
    pub async fn replicas(&self, name: &str) -> Result<Vec<ReplicaState>> {
        let cluster = self.cluster(name).await?;
        let (summary, repository) = self.repository_by_id(cluster.repository).await?;
        let mut states = Vec::new();
        for place in self.other_places(&summary, &repository).await? {
            let lag = lag(&summary, &repository, &place).await;
            let error = lag.as_ref().err().map(EngineError::to_object);
            let ReplicaPlace { url, added_at, .. } = place;
            states.push(ReplicaState { url, added_at, lag: lag.ok(), error });
        }
        Ok(states)
    }

    /// The known places, but for the one that this machine takes for the repository: it may have been a replica
    /// before.
    async fn other_places(
        &self,
        summary: &RepositorySummary,
        repository: &Repository,
    ) -> Result<Vec<ReplicaPlace>> {
        let own = RepositoryUrl::parse(&summary.url)?;
        let mut others = places::list(self.catalog(), repository).await?;
        others.retain(|place| {
            !RepositoryUrl::parse(&place.url).is_ok_and(|url| places::overlap(&own, &url))
        });
        Ok(others)
    }

    /// Forgets where a replica is. What is there stays.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where none is known.
    pub async fn forget_replica(&self, name: &str, url: &str) -> Result<ReplicaPlace> {
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let url = places::absolute(url)?.to_string();
        let found = places::list(self.catalog(), &repository)
            .await?
            .into_iter()
            .find(|place| place.url == url)
            .ok_or(EngineError::NotFound { what: "replica", name: url })?;
        places::remove(&repository, found.id).await?;
        Ok(found)
    }
}

/// What the job is called. A title is recorded: an address that is none, or has credentials in it, gets no further.
fn title(request: &ReplicationRequest) -> Result<String> {
    Ok(match &request.to {
        Some(url) => format!("Replicate {} to {}", request.cluster, places::absolute(url)?),
        None => format!("Replicate {}", request.cluster),
    })
}

async fn lag(
    summary: &RepositorySummary,
    repository: &Repository,
    place: &ReplicaPlace,
) -> Result<Lag> {
    let store = store_of(summary, &RepositoryUrl::parse(&place.url)?).await?;
    let behind = Replica::open(repository, store).await?.behind().await?;
    Ok(Lag::of(behind, Utc::now()))
}

/// The store of a replica, which answers and is not the repository's own.
async fn store_of(summary: &RepositorySummary, url: &RepositoryUrl) -> Result<Store> {
    if places::overlap(&RepositoryUrl::parse(&summary.url)?, url) {
        return Err(EngineError::usage(
            format!("{url} is the repository itself, or one lies in the other"),
            "A replica in the same place is lost with it: name another store, or another disk.",
        ));
    }
    let store = Store::open(url).await?;
    answers(&store).await?;
    Ok(store)
}

fn result_of(
    url: &RepositoryUrl,
    done: Replicated,
    locks: Option<LocksRenewed>,
    began: Instant,
) -> ReplicaResult {
    let held_back: Vec<_> = done
        .held_back
        .into_iter()
        .map(|held| HeldBack { object: held.object, message: held.what })
        .collect();
    ReplicaResult {
        url: url.to_string(),
        ok: held_back.is_empty(),
        objects: done.objects,
        bytes: done.bytes,
        removed: done.removed,
        locked: done.locked,
        locks,
        held_back,
        lag: Some(Lag::of(done.behind, Utc::now())),
        ahead: done.ahead,
        seconds: began.elapsed().as_secs_f64(),
        error: None,
        outcome: None,
    }
}

fn failed(url: &RepositoryUrl, error: &EngineError, began: Instant) -> ReplicaResult {
    ReplicaResult {
        url: url.to_string(),
        ok: false,
        objects: 0,
        bytes: 0,
        removed: 0,
        locked: 0,
        locks: None,
        held_back: Vec::new(),
        lag: None,
        ahead: 0,
        seconds: began.elapsed().as_secs_f64(),
        error: Some(error.to_object()),
        outcome: Some(error.outcome()),
    }
}
