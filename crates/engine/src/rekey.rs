//! Re-encryption: everything a repository holds, carried into one with a key of its own.
//!
//! Whoever has had the key of a repository may have kept it. So after a compromise there is another repository, with
//! another key: WAL, snapshots and decisions are read with the old key and stored with the new one, under the same
//! paths; this machine's clusters then go on there. The old repository is left as it is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_repository::{
    CarriedFiles, CreateOptions, Lease, ObjectEntry, ObjectKind, Rekey, Repository,
    RepositoryError, RepositoryUrl, Store, WriterRole,
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Engine;
use crate::archive::{SLICES_FOLDER, WAL_FOLDER};
use crate::catalog::repositories::{RepositorySummary, UnlockSource};
use crate::cluster::cluster_documents_prefix;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobKind, JobState};
use crate::lease::{COLLECTION, HeldLease, is_of_backup};
use crate::recovery_sheet::recovery_key_from_text;
use crate::replication::{HeldBack, places};
use crate::repository::{NewRepository, answers};
use crate::retention::tombstone::{self, Stage};
use crate::secrets::{self, HeldUnlock};
use crate::snapshot::{Snapshot, is_manifest};

/// Objects carried at a time, beside extents.
const AT_ONCE: usize = 4;
/// Larger ones are carried one by one.
const LARGE: u64 = 64 << 20;
/// Whoever goes on writing to the old repository is followed so often; what is new then is little.
const PASSES: usize = 4;
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
            let mut run = Run {
                engine: self,
                job,
                rekey: Rekey::new(old.clone(), new.clone())?,
                old: &old,
                new: &new,
                carried: Carried::default(),
            };
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

/// What has been carried so far.
#[derive(Debug, Default)]
struct Carried {
    snapshots: u64,
    objects: u64,
    there: Option<u64>,
    bytes_read: AtomicU64,
    bytes_stored: u64,
    held_back: Vec<HeldBack>,
    left: Vec<HeldBack>,
    /// Not tried again in the next pass.
    failed: HashSet<String>,
}

impl Carried {
    /// Tells of an object that cannot be carried.
    ///
    /// # Errors
    /// `error`, when it says nothing of the object.
    fn hold_back(&mut self, object: &str, error: RepositoryError) -> Result<()> {
        let list = match &error {
            RepositoryError::UntrustedWriter { .. } => &mut self.left,
            RepositoryError::Corrupt { .. }
            | RepositoryError::Document { .. }
            | RepositoryError::UnsupportedFormat { .. } => &mut self.held_back,
            _ => return Err(error.into()),
        };
        let message = EngineError::from(error).to_object().message;
        list.push(HeldBack { object: object.to_owned(), message });
        self.failed.insert(object.to_owned());
        Ok(())
    }

    /// Tells of an object that is none of a repository.
    fn leave(&mut self, object: &str, message: &str) {
        if self.failed.insert(object.to_owned()) {
            self.left.push(HeldBack { object: object.to_owned(), message: message.to_owned() });
        }
    }
}

struct Run<'a> {
    engine: &'a Engine,
    job: &'a JobContext,
    rekey: Rekey,
    old: &'a Repository,
    new: &'a Repository,
    carried: Carried,
}

impl Run<'_> {
    /// Carries everything, and then what has come meanwhile.
    async fn all(&mut self) -> Result<()> {
        for _ in 0..PASSES {
            if !self.pass().await? {
                return Ok(());
            }
        }
        Err(in_use("somebody goes on writing to the old repository faster than it is carried"))
    }

    /// Carries what is not there yet; whether anything was.
    async fn pass(&mut self) -> Result<bool> {
        let there: HashSet<String> =
            self.new.list("").await?.into_iter().map(|entry| entry.path).collect();
        let entries = self.old.list("").await?;
        let (mut objects, mut clusters, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = 0;
        for entry in entries {
            let list = match part_of(&entry.path) {
                Part::LeftOut => continue,
                Part::Stranger => {
                    self.carried.leave(&entry.path, "it is no object of a repository");
                    continue;
                }
                Part::Cluster => &mut clusters,
                Part::Manifest => &mut manifests,
                Part::Object => &mut objects,
            };
            if there.contains(&entry.path) {
                known += 1;
            } else if !self.carried.failed.contains(&entry.path) {
                list.push(entry);
            }
        }
        // Of the first pass.
        self.carried.there.get_or_insert(known);
        let going = self.going().await?;
        manifests.retain(|entry| !going.contains(&entry.path));
        let any = !(objects.is_empty() && clusters.is_empty() && manifests.is_empty());
        self.objects("carrying WAL and policies", objects).await?;
        self.snapshots(&manifests, &there).await?;
        self.remove_superfluous_slices().await?;
        // Last: whoever attaches the new repository sees a cluster when everything else is there.
        self.objects("carrying clusters", clusters).await?;
        Ok(any)
    }

    /// Slices of segments that are whole by now: the archiver removes them where it has put them.
    async fn remove_superfluous_slices(&self) -> Result<()> {
        let wal = self.new.list(WAL_FOLDER).await?;
        let whole: HashSet<&str> =
            wal.iter().filter_map(|entry| entry.path.strip_prefix(WAL_FOLDER)).collect();
        for entry in self.new.list(SLICES_FOLDER).await? {
            let segment = entry.path.strip_prefix(SLICES_FOLDER).and_then(|p| p.rsplit_once('/'));
            if segment.is_some_and(|(segment, _)| whole.contains(segment)) {
                match self.new.delete(&entry.path).await {
                    Ok(()) | Err(RepositoryError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Manifests whose removal has begun: what they name may be gone.
    async fn going(&self) -> Result<HashSet<String>> {
        let marked = tombstone::all(self.engine.catalog(), self.old).await?;
        let removing = marked.iter().filter_map(|marked| match &marked.stage {
            Stage::Removing(removal) | Stage::Removed(removal) => Some(removal),
            Stage::Standing | Stage::Lifted => None,
        });
        Ok(removing.flat_map(|removal| removal.objects.iter().cloned()).collect())
    }

    async fn objects(&mut self, phase: &str, entries: Vec<ObjectEntry>) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let total = entries.iter().map(|entry| entry.size).sum();
        self.job.reporter.phase(phase, Some("bytes"), Some(total));
        let (rekey, cancel) = (&self.rekey, &self.job.cancel);
        // Each is in memory, and so is what it becomes.
        let largest = entries.iter().map(|entry| entry.size).max().unwrap_or_default();
        let at_once = if largest > LARGE { 1 } else { AT_ONCE };
        let mut carrying = futures_util::stream::iter(entries)
            .map(|entry| async move {
                if cancel.is_cancelled() {
                    return Err(EngineError::Cancelled);
                }
                match rekey.object(&entry.path).await {
                    // Slices are replaced by what they are part of: the next pass finds that.
                    Err(RepositoryError::NotFound { .. }) => Ok((entry, Ok(None))),
                    outcome => Ok((entry, outcome.map(Some))),
                }
            })
            .buffer_unordered(at_once);
        let mut done = 0;
        while let Some((entry, outcome)) = carrying.try_next().await? {
            done += entry.size;
            self.job.reporter.done(done);
            match outcome {
                Ok(Some(bytes)) => {
                    self.carried.objects += 1;
                    self.carried.bytes_read.fetch_add(bytes, Ordering::Relaxed);
                }
                Ok(None) => {}
                Err(error) => self.carried.hold_back(&entry.path, error)?,
            }
        }
        Ok(())
    }

    /// Snapshots, each after the one before it of its cluster: what they have in common is read once.
    async fn snapshots(
        &mut self,
        manifests: &[ObjectEntry],
        there: &HashSet<String>,
    ) -> Result<()> {
        let mut clusters = BTreeMap::<Uuid, Vec<Snapshot>>::new();
        let mut total = 0;
        for entry in manifests {
            match self.old.get_document::<Snapshot>(&entry.path, ObjectKind::Snapshot).await {
                Ok(snapshot) if !snapshot.belongs_at(&entry.path) => {
                    self.carried.leave(&entry.path, "it is the manifest of something else");
                }
                Ok(snapshot) => {
                    total += snapshot.bytes_logical;
                    clusters.entry(snapshot.cluster).or_default().push(snapshot);
                }
                Err(RepositoryError::NotFound { .. }) => {}
                Err(error) => self.carried.hold_back(&entry.path, error)?,
            }
        }
        if total > 0 {
            self.job.reporter.phase("carrying snapshots", Some("bytes"), Some(total));
        }
        let mut done = 0;
        for mut snapshots in clusters.into_values() {
            snapshots.sort_by_key(|snapshot| snapshot.id);
            let mut before = self.carried_before(&snapshots, there).await?;
            for snapshot in snapshots {
                self.job.check()?;
                let path = snapshot.path();
                match self.snapshot(&snapshot, before.as_ref()).await {
                    Ok(carried) => before = Some((snapshot.clone(), carried)),
                    Err(EngineError::Repository(error)) => self.carried.hold_back(&path, error)?,
                    Err(error) => return Err(error),
                }
                done += snapshot.bytes_logical;
                self.job.reporter.done(done);
            }
        }
        Ok(())
    }

    /// The newest snapshot of the same cluster before these that a run before has carried, in both repositories.
    async fn carried_before(
        &self,
        snapshots: &[Snapshot],
        there: &HashSet<String>,
    ) -> Result<Option<(Snapshot, Snapshot)>> {
        let Some(first) = snapshots.first() else { return Ok(None) };
        let (own, prefix) = (first.path(), crate::snapshot::prefix(first.cluster));
        let newest = there
            .iter()
            .filter(|path| path.starts_with(&prefix) && is_manifest(path) && **path < own)
            .max();
        let Some(path) = newest else { return Ok(None) };
        let both = async {
            let old = self.old.get_document(path, ObjectKind::Snapshot).await?;
            Ok((old, self.new.get_document(path, ObjectKind::Snapshot).await?))
        };
        match both.await {
            Ok(both) => Ok(Some(both)),
            // Without it more is read, and the same is stored.
            Err(RepositoryError::NotFound { .. } | RepositoryError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Carries one: what it names first, then its manifest.
    async fn snapshot(
        &mut self,
        snapshot: &Snapshot,
        before: Option<&(Snapshot, Snapshot)>,
    ) -> Result<Snapshot> {
        let before =
            before.map(|(old, new)| CarriedFiles { old: &old.file_table, new: &new.file_table });
        let read = &self.carried.bytes_read;
        let count = |bytes| {
            read.fetch_add(bytes, Ordering::Relaxed);
        };
        let (file_table, stats) =
            self.rekey.files(&snapshot.file_table, before, &count, &self.job.cancel).await?;
        let bytes_added = stats.bytes_stored + file_table.bytes;
        let carried = Snapshot { bytes_added, file_table, ..snapshot.clone() };
        self.new.put_document(&carried.path(), ObjectKind::Snapshot, &carried).await?;
        self.carried.snapshots += 1;
        self.carried.bytes_stored += bytes_added;
        Ok(carried)
    }
}

/// How an object goes into the new repository.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// It does not: keys, what is made anew, what is of the old one alone.
    LeftOut,
    Manifest,
    Cluster,
    /// As it is.
    Object,
    /// Nobody who writes to repositories has put it there.
    Stranger,
}

fn part_of(path: &str) -> Part {
    let first = path.split('/').next().unwrap_or_default();
    match first {
        "snapshots" if is_manifest(path) => Part::Manifest,
        // Lists of files go with their manifests. Proofs are of the old bytes: the new ones have not been shown to
        // restore.
        "holdfast.json" | "keys" | "packs" | "index" | "leases" | "tombstones" | "proofs"
        | "probe" | "bundle" | "snapshots" => Part::LeftOut,
        "policies" if path.starts_with(places::PREFIX) || path.starts_with(MARK_PREFIX) => {
            Part::LeftOut
        }
        "policies" if path.starts_with(cluster_documents_prefix()) => Part::Cluster,
        "wal" | "slices" | "history" | "coverage" | "policies" | "incidents" | "audit" => {
            Part::Object
        }
        _ => Part::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_what_is_of_the_old_one_alone_stay_behind() {
        for path in [
            "holdfast.json",
            "keys/a.json",
            "keys/writers/b.json",
            "packs/aa/aa00",
            "index/aa",
            "leases/backup-1/0000000000000001.json",
            "tombstones/1",
            "proofs/a/b/c",
            "snapshots/a/b.files",
            "policies/replicas/1",
            "policies/rekeyed-from/1",
        ] {
            assert_eq!(part_of(path), Part::LeftOut, "{path}");
        }
        assert_eq!(part_of("snapshots/a/b"), Part::Manifest);
        assert_eq!(part_of(&format!("{}a/b", cluster_documents_prefix())), Part::Cluster);
        for path in ["wal/1/00000001/a", "slices/1/a", "policies/a/1", "history/1/a", "audit/1"] {
            assert_eq!(part_of(path), Part::Object, "{path}");
        }
        for path in ["README", ".DS_Store", "walrus/1"] {
            assert_eq!(part_of(path), Part::Stranger, "{path}");
        }
    }
}
