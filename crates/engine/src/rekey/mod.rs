//! Re-encryption: everything a repository holds, carried into one with a key of its own.
//!
//! Whoever has had the key of a repository may have kept it. So after a compromise there is another repository, with
//! another key: WAL, snapshots and decisions are read with the old key and stored with the new one, under the same
//! paths; this machine's clusters then go on there. The old repository is left as it is.

mod carry;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use chrono::{DateTime, Utc};
use holdfast_repository::{
    CreateOptions, Lease, ObjectKind, Repository, RepositoryError, RepositoryUrl, Store, WriterRole,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Engine;
use crate::catalog::repositories::{RepositorySummary, UnlockSource};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobKind, JobState};
use crate::lease::{COLLECTION, HeldLease, is_of_backup};
use crate::recovery_sheet::recovery_key_from_text;
use crate::replication::{HeldBack, places};
use crate::repository::{NewRepository, answers};
use crate::secrets::{self, HeldUnlock};
use carry::Run;

/// That a repository is what another one is carried into.
const MARK_PREFIX: &str = "policies/rekeyed-from/";

/// What is to be re-encrypted, and what opens the new repository.
#[derive(Debug)]
pub struct RekeyRequest {
    /// The repository; the only one when none is named.
    pub repository: Option<String>,
    /// Where the new one is made, or goes on.
    pub to: String,
    /// Opens the new one.
    pub passphrase: Option<SecretString>,
    /// A key in the OS keychain opens it.
    pub keychain: bool,
    /// A recovery key opens it, written to this new file; of a run that goes on, the one it has written.
    pub recovery_key_file: Option<PathBuf>,
    /// This machine's clusters go on in the new one although something could not be carried.
    pub force: bool,
}

/// What was carried.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RekeyResult {
    /// The job.
    pub job: String,
    /// The repository that was read.
    pub from: String,
    /// The one with the new key.
    pub to: String,
    /// Its id.
    pub repository: String,
    /// Everything was carried, now or before.
    pub ok: bool,
    /// Snapshots carried now.
    #[ts(type = "number")]
    pub snapshots: u64,
    /// Other objects carried now: WAL, policies, holds, clusters.
    #[ts(type = "number")]
    pub objects: u64,
    /// What a run before had carried.
    #[ts(type = "number")]
    pub there: u64,
    /// Bytes read of snapshots' files and of other objects.
    #[ts(type = "number")]
    pub bytes_read: u64,
    /// Bytes stored of snapshots.
    #[ts(type = "number")]
    pub bytes_stored: u64,
    /// What could not be carried: it is damaged, or needs what is.
    pub held_back: Vec<HeldBack>,
    /// What does not count in the old repository and was left there: of writers whom it does not trust, or no object
    /// of a repository at all.
    pub left: Vec<HeldBack>,
    /// This machine's clusters go on in the new repository.
    pub switched: bool,
    /// Agents of the old repository. None of them may write to the new one: admit them anew.
    pub agents: Vec<String>,
    /// Replicas of the old repository. They keep its key: make new ones, and delete these.
    pub replicas: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// What it means, and what is left to do.
    pub means: String,
}

/// Stands in the new repository from its first moment on.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Mark {
    from: Uuid,
    root_public_key: String,
    began_at: DateTime<Utc>,
}

impl Engine {
    /// Carries a repository into one with another key. Cut off anywhere, the same call goes on.
    ///
    /// # Errors
    /// Refused where something else is, or while this machine archives into the old one; what the stores say. Damage
    /// is told in the result.
    pub async fn rekey(
        &self,
        request: RekeyRequest,
        cancel: CancellationToken,
    ) -> Result<RekeyResult> {
        if request.passphrase.is_none() && !request.keychain && request.recovery_key_file.is_none()
        {
            return Err(EngineError::usage(
                "the new repository needs a way in of its own",
                "Use --new-passphrase, --new-passphrase-file FILE, --keychain or --recovery-key-out FILE.",
            ));
        }
        let to = places::absolute(&request.to)?;
        let summary = self.find_to_rekey(request.repository.as_deref(), &to).await?;
        if places::overlap(&RepositoryUrl::parse(&summary.url)?, &to) {
            return Err(EngineError::usage(
                "the new repository would lie in the old one",
                "Name another place with --to.",
            ));
        }
        let title = format!("Re-encrypt {} into {to}", summary.url);
        let engine = self.clone();
        self.run_job(JobKind::Rekey, None, title, cancel, |job| async move {
            engine.rekey_in(&job, &request, summary, &to).await
        })
        .await
    }

    /// The repository that is meant: without a name the only one, but for what it is carried into.
    async fn find_to_rekey(
        &self,
        which: Option<&str>,
        to: &RepositoryUrl,
    ) -> Result<RepositorySummary> {
        if which.is_none() {
            let mut others = self.repositories().await?;
            others.retain(|repository| repository.url != to.to_string());
            if others.len() == 1 {
                return self.find_repository(Some(&others.remove(0).url)).await;
            }
        }
        self.find_repository(which).await
    }

    async fn rekey_in(
        &self,
        job: &JobContext,
        request: &RekeyRequest,
        summary: RepositorySummary,
        url: &RepositoryUrl,
    ) -> Result<RekeyResult> {
        let began = Instant::now();
        job.reporter.phase("opening", None, None);
        let old = self.open_repository(&summary).await?;
        old.must_read("re-encrypting")?;
        let new = self.open_to_rekey(request, &old, url).await?;
        // One at a time: another one would replace lists of files that this one has named.
        let writing = HeldLease::alone(self, &new, job, JobKind::Rekey).await?;
        let reading = HeldLease::to_read(self, &old, job, JobKind::Rekey).await;
        let outcome = async {
            let mut run = Run::new(self, job, &old, &new)?;
            run.all().await?;
            let switched = run.carried.held_back.is_empty() || request.force;
            if switched {
                // What was written while nobody was asked; and then that nobody has begun meanwhile.
                self.nobody_writes(&summary, &old, job).await?;
                run.all().await?;
                self.nobody_writes(&summary, &old, job).await?;
            }
            writing.check().await?;
            if switched {
                self.switch(request, url, &new).await?;
            }
            Ok::<_, EngineError>((run.carried, switched))
        }
        .await;
        if let Some(reading) = reading {
            reading.release().await;
        }
        writing.release().await;
        let (carried, switched) = outcome?;
        let ok = carried.held_back.is_empty();
        let writers = old.writers().await?;
        let agents = writers.into_iter().filter(|writer| writer.role == WriterRole::Agent);
        let replicas = places::list(self.catalog(), &old).await?;
        Ok(RekeyResult {
            job: job.id.to_string(),
            from: summary.url.clone(),
            to: url.to_string(),
            repository: new.id().to_string(),
            ok,
            snapshots: carried.snapshots,
            objects: carried.objects,
            there: carried.there.unwrap_or_default(),
            bytes_read: carried.bytes_read.into_inner(),
            bytes_stored: carried.bytes_stored,
            held_back: carried.held_back,
            left: carried.left,
            switched,
            agents: agents.filter_map(|writer| writer.label).collect(),
            replicas: replicas.into_iter().map(|place| place.url).collect(),
            seconds: began.elapsed().as_secs_f64(),
            means: meaning(&summary.url, switched),
        })
    }

    /// Makes the new repository, or opens the one that a run before has made. This machine does not know it before
    /// its clusters go on there: until then commands that name no repository mean the old one.
    async fn open_to_rekey(
        &self,
        request: &RekeyRequest,
        old: &Repository,
        url: &RepositoryUrl,
    ) -> Result<Repository> {
        let store = Store::open(url).await?;
        answers(&store).await?;
        let path = format!("{MARK_PREFIX}{}", old.id());
        let mark = Mark {
            from: old.id(),
            root_public_key: old.root_public_key().to_owned(),
            began_at: Utc::now(),
        };
        let id = match Repository::identify(&store).await {
            Ok(id) => id,
            Err(RepositoryError::NotARepository { .. }) => {
                let options = CreateOptions::default()
                    .with_extent_size(u32::try_from(old.extent_size()).unwrap_or(u32::MAX));
                let new = NewRepository {
                    url: url.to_string(),
                    passphrase: request.passphrase.clone(),
                    keychain: request.keychain,
                    recovery_key_file: request.recovery_key_file.clone(),
                    demo: false,
                };
                let new = self.make_repository(&new, url, options).await?;
                new.put_document(&path, ObjectKind::Policy, &mark).await?;
                return Ok(new);
            }
            Err(error) => return Err(error.into()),
        };
        let held = match request {
            RekeyRequest { passphrase: Some(passphrase), .. } => {
                HeldUnlock::Passphrase(passphrase.clone())
            }
            RekeyRequest { keychain: true, .. } => {
                HeldUnlock::Wrapping(secrets::kept_repository_key(id, &url.to_string()).await?)
            }
            RekeyRequest { recovery_key_file: Some(path), .. } => {
                let text =
                    std::fs::read_to_string(path).map_err(EngineError::file("read", path))?;
                HeldUnlock::RecoveryKey(recovery_key_from_text(&text))
            }
            _ => return Err(EngineError::Fault("a new repository without a way in".to_owned())),
        };
        let new = held.open(store, self.home().device()?).await?;
        match new.get_document::<Mark>(&path, ObjectKind::Policy).await {
            Ok(found) if found.root_public_key == mark.root_public_key => Ok(new),
            // Cut off between its creation and the mark.
            Err(RepositoryError::NotFound { .. }) if is_empty(&new).await? => {
                new.put_document(&path, ObjectKind::Policy, &mark).await?;
                Ok(new)
            }
            Ok(_) | Err(RepositoryError::NotFound { .. }) => Err(EngineError::refused(
                "place_occupied",
                format!(
                    "{url} holds another repository, which is not what this one is carried into"
                ),
                "Choose a place where nothing is. Nothing was written there.",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes sure that no job writes to the old repository: of this machine by its jobs, of others by their leases.
    async fn nobody_writes(
        &self,
        summary: &RepositorySummary,
        old: &Repository,
        own: &JobContext,
    ) -> Result<()> {
        let theirs: BTreeSet<String> = self
            .clusters()
            .await?
            .into_iter()
            .filter(|cluster| cluster.repository == summary.id)
            .map(|cluster| cluster.name)
            .collect();
        let busy = self.jobs().await?.into_iter().find(|job| {
            job.state == JobState::Running
                && matches!(job.kind, JobKind::Archive | JobKind::Backup)
                && job.cluster.as_ref().is_some_and(|name| theirs.contains(name))
        });
        if let Some(job) = busy {
            return Err(in_use(&format!(
                "the job \"{}\" goes on writing to {}",
                job.title, summary.url
            )));
        }
        let leases = Lease::list(old, "").await?;
        let writing = leases.into_iter().find(|lease| {
            let own = lease.name.contains(&own.id.to_string());
            lease.alive && !own && (is_of_backup(lease) || lease.name == COLLECTION)
        });
        match writing {
            Some(lease) => Err(in_use(&format!("{} is writing to {}", lease.holder, summary.url))),
            None => Ok(()),
        }
    }

    /// Has this machine know the new repository, and its clusters go on there.
    async fn switch(
        &self,
        request: &RekeyRequest,
        url: &RepositoryUrl,
        new: &Repository,
    ) -> Result<()> {
        let unlock =
            if request.keychain { UnlockSource::Keychain } else { UnlockSource::Passphrase };
        self.remember(new.clone(), url.to_string(), unlock).await?;
        self.rebuild_clusters(new).await?;
        Ok(())
    }
}

fn in_use(what: &str) -> EngineError {
    EngineError::refused(
        "repository_in_use",
        format!("what was there is carried, but {what}"),
        "Stop it and run the same command again: only what is new since then is carried. Then start it anew; it goes on \
         in the new repository.",
    )
}

fn meaning(old: &str, switched: bool) -> String {
    let switched = if switched {
        "This machine's clusters go on in the new repository, which needs the new key (HOLDFAST_PASSPHRASE where the \
         old one was set); attach it on others. Both repositories are known here: where a command names none, such as \
         wal-put in an archive_command, say --repo. "
    } else {
        "This machine's clusters stay where they were, since something could not be carried: look at it, and say \
         --force to go on without it. "
    };
    format!(
        "{switched}Carried snapshots count as stored: verify or restore them to see them proven again. Marks for removal \
         were not carried: retention marks anew. {old} is as it was. Whoever had its key and a copy can read that copy \
         for ever: change the passwords and tokens that were in the database, take away access to the store, and delete \
         the old repository and its replicas when the new one is verified."
    )
}

/// Whether there is nothing in a repository but what was made with it.
async fn is_empty(repository: &Repository) -> Result<bool> {
    let entries = repository.list("").await?;
    Ok(entries.iter().all(|entry| entry.path == "holdfast.json" || entry.path.starts_with("keys/")))
}
