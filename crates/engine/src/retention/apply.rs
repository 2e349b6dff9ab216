//! Applying retention: marking what a plan lets go of, and removing what was marked long enough ago.
//!
//! One at a time does this in a repository, under the lease [`COLLECTION`](crate::lease::COLLECTION). Backups, restores, replications,
//! exports and verifications hold leases of their own: what they may need is not removed under them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use holdfast_postgres::{Lsn, SystemIdentifier, TimelineId};
use holdfast_repository::{
    FileTableRef, Lease, ObjectKind, PackId, Repository, RepositoryError, SNAPSHOTS_PREFIX,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::locks::{self, LocksRenewed};
use super::report::RetentionPlan;
use super::span::Span;
use super::sweep::Sweep;
use super::tombstone::{self, Marked, MarkedSnapshot, MarkedWal, Stage, Tombstone};
use crate::Engine;
use crate::archive::ledger::without;
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::lease::{HeldLease, is_of_backup};
use crate::snapshot::{Snapshot, cached_document, is_file_table, is_manifest};

/// How long a mark can be taken back when nothing else is said: a week.
pub const DEFAULT_DELAY: Span = Span::days(7);
/// What nothing names and is younger than this may be of a backup that still runs.
const YOUNG: TimeDelta = TimeDelta::hours(24);

/// What is marked for removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Queued {
    /// The mark's id.
    pub id: String,
    /// When it was marked.
    #[ts(type = "string")]
    pub marked_at: DateTime<Utc>,
    /// It is removed when retention is applied after this time, by the store's clock. Until then it can be taken
    /// back.
    #[ts(type = "string")]
    pub due_at: DateTime<Utc>,
    /// Its removal has begun: it cannot be taken back.
    pub removing: bool,
    /// Snapshots.
    pub snapshots: Vec<String>,
    /// WAL segments.
    #[ts(type = "number")]
    pub wal_segments: u64,
    /// Packs that nothing needs without these snapshots.
    #[ts(type = "number")]
    pub packs: u64,
    /// About how many bytes they have.
    #[ts(type = "number")]
    pub bytes: u64,
}

impl From<&Marked> for Queued {
    fn from(marked: &Marked) -> Self {
        let tombstone = &marked.tombstone;
        Self {
            id: tombstone.id.to_string(),
            marked_at: tombstone.marked_at,
            due_at: marked.due_at,
            removing: matches!(marked.stage, Stage::Removing(_)),
            snapshots: tombstone.snapshots.iter().map(|s| s.id.to_string()).collect(),
            wal_segments: tombstone.wal.iter().map(|wal| wal.segments().count() as u64).sum(),
            packs: tombstone.packs.len() as u64,
            bytes: tombstone.bytes,
        }
    }
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct RemovedTotals {
    /// Snapshots.
    pub snapshots: Vec<String>,
    /// WAL segments.
    #[ts(type = "number")]
    pub wal_segments: u64,
    /// Packs.
    #[ts(type = "number")]
    pub packs: u64,
    /// Objects of every kind.
    #[ts(type = "number")]
    pub objects: u64,
    /// Their bytes.
    #[ts(type = "number")]
    pub bytes: u64,
}

/// A removal that has to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Waiting {
    /// The mark's id.
    pub id: String,
    /// Whose lease it waits for.
    pub holder: String,
    /// When that ends unless it is renewed, by the store's clock.
    #[ts(type = "string")]
    pub until: DateTime<Utc>,
}

/// A removal that waits until the store lets go of what is to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Locked {
    /// The mark's id.
    pub id: String,
    /// When the last lock of what it names ends.
    #[ts(type = "string")]
    pub until: DateTime<Utc>,
}

/// What became of marks that were to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Undeleted {
    /// Marks that were taken back.
    pub undeleted: Vec<Queued>,
    /// Marks that could not be, since their removal has begun.
    pub removing: Vec<Queued>,
}

/// An object that the store did not remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct KeptByStore {
    /// Which.
    pub object: String,
    /// What the store said.
    pub message: String,
}

/// What applying retention came to.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RetentionApplied {
    /// The job.
    pub job: String,
    /// The cluster.
    pub cluster: String,
    /// By which version of its policy; 0 is the default.
    #[ts(type = "number")]
    pub policy_version: u64,
    /// What was removed: it had been marked, its time had come, and nothing kept it again.
    pub removed: RemovedTotals,
    /// Snapshots that were marked and are kept after all, by the plan of now.
    pub spared: Vec<String>,
    /// What was due and waits for somebody who may need it.
    pub waiting: Vec<Waiting>,
    /// What was due and is locked by the store: until that ends the mark can be taken back.
    #[serde(default)]
    pub locked: Vec<Locked>,
    /// What the store did not remove; it is tried again the next time.
    pub kept_by_store: Vec<KeptByStore>,
    /// What was marked now; null when there was nothing to mark.
    pub marked: Option<Queued>,
    /// What was done about the locks of what stays; null where the store has no rule that locks what is put,
    /// or could not be asked.
    #[serde(default)]
    pub locks: Option<LocksRenewed>,
    /// Everything that is marked, with what was marked now.
    pub queue: Vec<Queued>,
}

/// Every manifest of a repository.
pub(super) struct Manifests(pub(super) BTreeMap<Uuid, Snapshot>);

impl Manifests {
    /// The lists of files of all snapshots but these.
    pub(super) fn tables_without(&self, gone: &HashSet<Uuid>) -> Vec<FileTableRef> {
        let living = self.0.values().filter(|snapshot| !gone.contains(&snapshot.id));
        living.map(|snapshot| snapshot.file_table.clone()).collect()
    }

    fn tables_of(&self, ids: &HashSet<Uuid>) -> Vec<FileTableRef> {
        let of = self.0.values().filter(|snapshot| ids.contains(&snapshot.id));
        of.map(|snapshot| snapshot.file_table.clone()).collect()
    }
}

/// A stretch of WAL on one timeline of one system.
type Stretches = HashMap<(SystemIdentifier, TimelineId), Vec<(Lsn, Lsn)>>;

impl Engine {
    /// Removes what was marked and is due, then marks what the plan of now does not keep. What is marked can be
    /// taken back for `delay`.
    ///
    /// With `accept_lost`, snapshots that this machine knows and the store does not list are given up: it forgets
    /// them.
    ///
    /// # Errors
    /// When not everything that is stored can be read: nothing is removed on what is not known. Refused while
    /// somebody else does the same.
    pub async fn apply_retention(
        &self,
        name: &str,
        delay: Span,
        accept_lost: bool,
        cancel: CancellationToken,
    ) -> Result<RetentionApplied> {
        let cluster = self.cluster(name).await?;
        let engine = self.clone();
        self.run_job(JobKind::Retention, Some(name), title(name), cancel, |job| async move {
            if accept_lost {
                engine.forget_lost(&job, &cluster).await?;
            }
            engine.apply_in(job, cluster, delay).await
        })
        .await
    }

    /// The same in the background, with [`DEFAULT_DELAY`].
    ///
    /// # Errors
    /// When the job cannot be recorded.
    pub async fn start_retention(&self, name: &str) -> Result<JobId> {
        let cluster = self.cluster(name).await?;
        let engine = self.clone();
        self.start_job(JobKind::Retention, Some(name), title(name), |job| async move {
            engine.apply_in(job, cluster, DEFAULT_DELAY).await
        })
        .await
    }

    async fn apply_in(
        &self,
        job: JobContext,
        cluster: Cluster,
        delay: Span,
    ) -> Result<RetentionApplied> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let who = format!("retention {}", job.id);
        let collection = HeldLease::to_collect(self, &repository, &who, Some(job.id)).await?;
        let cancel = job.cancel.clone();
        let outcome = tokio::select! {
            outcome = self.apply_held(&job, &repository, &cluster, delay, &collection) => outcome,
            () = cancel.cancelled() => Err(EngineError::Cancelled),
        };
        collection.release().await;
        outcome
    }

    /// What of a cluster is marked for removal, oldest first.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn retention_queue(&self, name: &str) -> Result<Vec<Queued>> {
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let marked = tombstone::all(self.catalog(), &repository).await?;
        Ok(queue_of(&marked, &self.own_clusters(&repository, &cluster).await?))
    }

    /// Takes marks back: all of a cluster, or one. What they named is kept until retention is applied again.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where nothing is marked; refused for what is being removed, or while
    /// somebody applies retention.
    pub async fn undelete(&self, name: &str, mark: Option<Uuid>) -> Result<Undeleted> {
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let collection =
            HeldLease::to_collect(self, &repository, "retention undelete", None).await?;
        let outcome = async {
            let marked = tombstone::all(self.catalog(), &repository).await?;
            let clusters = self.own_clusters(&repository, &cluster).await?;
            collection.check().await?;
            let own = marked.iter().filter(|m| {
                clusters.contains(&m.tombstone.cluster) && mark.is_none_or(|id| m.tombstone.id == id)
            });
            let (mut undeleted, mut removing) = (Vec::new(), Vec::new());
            for marked in own {
                match marked.stage {
                    Stage::Standing => {
                        tombstone::lift(&repository, marked.tombstone.id).await?;
                        undeleted.push(Queued::from(marked));
                    }
                    Stage::Removing(_) => removing.push(Queued::from(marked)),
                    Stage::Lifted | Stage::Removed(_) => {}
                }
            }
            if !undeleted.is_empty() {
                // Somebody else may have begun to remove it when the lease was lost meanwhile.
                collection.check().await?;
                return Ok(Undeleted { undeleted, removing });
            }
            if !removing.is_empty() {
                return Err(EngineError::refused(
                    tombstone::BEGUN,
                    "the removal of what was marked has begun: it cannot be taken back",
                    "Look in a replica: `holdfast replicate NAME --status` names them, and what is removed here goes \
                     there with the next replication only.",
                ));
            }
            Err(tombstone::no_mark(&mark.map_or("(any)".to_owned(), |id| id.to_string())))
        }
        .await;
        collection.release().await;
        outcome
    }

    async fn apply_held(
        &self,
        job: &JobContext,
        repository: &Repository,
        cluster: &Cluster,
        delay: Span,
        collection: &HeldLease,
    ) -> Result<RetentionApplied> {
        job.reporter.phase("reading what is stored", None, None);
        // Before anything that may fail: what is needed stays locked, whatever else is wrong.
        let now = collection.since();
        let marked = tombstone::readable(self.catalog(), repository).await?;
        let locks = locks::renew(job, repository.store(), &marked, now).await;
        let marked = tombstone::all(self.catalog(), repository).await?;
        let swept =
            Sweep { engine: self, job, repository, collection, cluster }.run(&marked).await?;

        job.reporter.phase("marking", None, None);
        // Before the manifests are listed: what a backup under way has stored is named by none yet.
        let leases = Lease::list(repository, "").await?;
        let backing_up = leases.iter().any(|lease| lease.alive && is_of_backup(lease));
        let orphans = (!backing_up).then(|| collection.since() - YOUNG);
        let manifests = self.manifests(repository).await?;
        let plan = self.retention_plan(&cluster.name).await?;
        let new = self.to_mark(repository, cluster, &plan, &manifests, delay, orphans).await?;
        if let Some(tombstone) = &new {
            collection.check().await?;
            tombstone::place(repository, tombstone).await?;
        }
        let marked = tombstone::all(self.catalog(), repository).await?;
        let id = new.map(|tombstone| tombstone.id);
        Ok(RetentionApplied {
            job: job.id.to_string(),
            cluster: cluster.name.clone(),
            policy_version: plan.policy.version,
            removed: swept.removed,
            spared: swept.spared,
            waiting: swept.waiting,
            locked: swept.locked,
            locks,
            kept_by_store: swept.kept_by_store,
            marked: marked.iter().find(|m| Some(m.tombstone.id) == id).map(Queued::from),
            queue: queue_of(&marked, &plan.clusters),
        })
    }

    /// Every manifest in the repository.
    ///
    /// # Errors
    /// Where one cannot be read, or one that this machine knows is not listed: what the packs are needed for is
    /// not known then.
    pub(super) async fn manifests(&self, repository: &Repository) -> Result<Manifests> {
        let mut manifests = BTreeMap::new();
        for entry in repository.list(SNAPSHOTS_PREFIX).await? {
            if is_manifest(&entry.path) {
                let kind = ObjectKind::Snapshot;
                let snapshot: Snapshot =
                    cached_document(self.catalog(), repository, &entry.path, kind).await?;
                if !snapshot.belongs_at(&entry.path) {
                    continue;
                }
                let id = snapshot.id;
                if manifests.insert(id, snapshot).is_some() {
                    return Err(EngineError::integrity(
                        "snapshot_twice",
                        format!(
                            "two manifests say to be the snapshot {id}; one of them is {}",
                            entry.path
                        ),
                        "Somebody has forged one. Nothing is removed while it is there: find out who wrote it, and \
                         remove that object from the store.",
                    ));
                }
            }
        }
        if let Some(path) = self.lost_manifests(repository).await?.first() {
            return Err(EngineError::integrity(
                "snapshot_missing",
                format!("{path} was in the repository and is not listed now"),
                "Nothing is removed while something is missing that nobody has removed. Verify the repository, and \
                 bring back what is missing from a replica. If it is lost, `--accept-lost` gives it up.",
            ));
        }
        Ok(Manifests(manifests))
    }

    /// Forgets the manifests that this machine knows and the store does not list.
    async fn forget_lost(&self, job: &JobContext, cluster: &Cluster) -> Result<()> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let lost = self.lost_manifests(&repository).await?;
        for path in &lost {
            job.reporter
                .warning(format!("{path} is given up: it is not in the repository any more"));
        }
        self.catalog().forget_objects(repository.id(), &lost).await
    }

    /// The manifests that this machine knows, the store does not list, and nobody has removed on purpose.
    async fn lost_manifests(&self, repository: &Repository) -> Result<Vec<String>> {
        let listed: HashSet<String> =
            repository.list(SNAPSHOTS_PREFIX).await?.into_iter().map(|entry| entry.path).collect();
        let removed = tombstone::removed_objects(self.catalog(), repository).await?;
        let mut known = self.catalog().known_objects(repository.id()).await?;
        known.retain(|p| is_manifest(p) && !listed.contains(p) && !removed.contains(p));
        Ok(known)
    }

    /// What the plan does not keep and is not marked yet; with what nothing names and was stored before a time.
    async fn to_mark(
        &self,
        repository: &Repository,
        cluster: &Cluster,
        plan: &RetentionPlan,
        manifests: &Manifests,
        delay: Span,
        orphans_before: Option<DateTime<Utc>>,
    ) -> Result<Option<Tombstone>> {
        let now = Utc::now();
        let marked = tombstone::all(self.catalog(), repository).await?;
        let mut doomed: HashSet<Uuid> =
            marked.iter().flat_map(|m| m.going().0).map(|snapshot| snapshot.id).collect();
        let mut snapshots = Vec::new();
        for fate in plan.snapshots.iter().filter(|fate| !fate.kept) {
            let known = fate.id.parse::<Uuid>().ok().and_then(|id| manifests.0.get(&id));
            if let Some(snapshot) = known.filter(|snapshot| doomed.insert(snapshot.id)) {
                snapshots.push(MarkedSnapshot { cluster: snapshot.cluster, id: snapshot.id });
            }
        }
        let (wal, wal_bytes) = wal_to_mark(plan, &marked);

        let packs_marked: HashSet<PackId> = marked.iter().flat_map(Marked::packs).collect();
        let dying = snapshots.iter().map(|snapshot| snapshot.id).collect();
        let theirs = packs_of_dying(repository, &manifests.tables_of(&dying)).await?;
        let living = manifests.tables_without(&doomed);
        let unneeded = repository.packs_unneeded(&living, &packs_marked).await?;
        let packs: Vec<_> = unneeded
            .into_iter()
            .filter(|each| {
                theirs.contains(&each.pack) || orphans_before.is_some_and(|at| each.stored_at < at)
            })
            .filter(|each| !packs_marked.contains(&each.pack))
            .collect();
        let files = match orphans_before {
            None => Vec::new(),
            Some(before) => files_without_manifest(repository, manifests, &marked, before).await?,
        };
        if snapshots.is_empty() && wal.is_empty() && packs.is_empty() && files.is_empty() {
            return Ok(None);
        }
        Ok(Some(Tombstone {
            id: Uuid::now_v7(),
            cluster: cluster.id,
            marked_at: now,
            delay_seconds: (now - delay.before(now)).num_seconds().unsigned_abs(),
            policy_version: plan.policy.version,
            snapshots,
            wal,
            files,
            bytes: wal_bytes + packs.iter().map(|each| each.bytes).sum::<u64>(),
            packs: packs.into_iter().map(|each| each.pack).collect(),
        }))
    }
}

/// The packs of snapshots that go. Of one whose list of files is damaged they are found once they are old: then
/// nobody needs them.
async fn packs_of_dying(
    repository: &Repository,
    tables: &[FileTableRef],
) -> Result<HashSet<PackId>> {
    if let Ok(packs) = repository.packs_needed(tables, &[]).await {
        return Ok(packs);
    }
    let mut packs = HashSet::new();
    for table in tables {
        match repository.packs_needed(std::slice::from_ref(table), &[]).await {
            Ok(needed) => packs.extend(needed),
            Err(error @ (RepositoryError::Corrupt { .. } | RepositoryError::NotFound { .. })) => {
                tracing::warn!(%error, "the packs of a snapshot that goes are not known");
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(packs)
}

fn title(name: &str) -> String {
    format!("Apply retention to {name}")
}

/// Lists of files of backups that ended before their manifest was written.
async fn files_without_manifest(
    repository: &Repository,
    manifests: &Manifests,
    marked: &[Marked],
    before: DateTime<Utc>,
) -> Result<Vec<String>> {
    let named: HashSet<&str> = manifests
        .0
        .values()
        .map(|snapshot| snapshot.file_table.path.as_str())
        .chain(
            marked
                .iter()
                .filter(|m| m.stands())
                .flat_map(|m| &m.tombstone.files)
                .map(String::as_str),
        )
        .collect();
    let listed = repository.list(SNAPSHOTS_PREFIX).await?.into_iter();
    Ok(listed
        .filter(|entry| is_file_table(&entry.path) && entry.modified < before)
        .map(|entry| entry.path)
        .filter(|path| !named.contains(path.as_str()))
        .collect())
}

fn queue_of(marked: &[Marked], clusters: &BTreeSet<Uuid>) -> Vec<Queued> {
    let own = marked.iter().filter(|m| m.stands() && clusters.contains(&m.tombstone.cluster));
    own.map(Queued::from).collect()
}

/// WAL that the plan does not keep and no tombstone names yet, with about how many bytes it has.
fn wal_to_mark(plan: &RetentionPlan, marked: &[Marked]) -> (Vec<MarkedWal>, u64) {
    let mut named = Stretches::new();
    for wal in marked.iter().flat_map(|marked| marked.going().1) {
        named.entry((wal.system, wal.timeline)).or_default().push((wal.from_lsn, wal.to_lsn));
    }
    let none = Vec::new();
    let (mut marked, mut bytes) = (Vec::new(), 0);
    for fate in plan.wal.iter().filter(|fate| !fate.kept) {
        let taken = named.get(&(fate.system_identifier, fate.timeline)).unwrap_or(&none);
        for (from_lsn, to_lsn) in without(vec![(fate.from_lsn, fate.to_lsn)], taken) {
            let wal = MarkedWal {
                system: fate.system_identifier,
                timeline: fate.timeline,
                segment_size: fate.segment_size,
                from_lsn,
                to_lsn,
            };
            bytes += fate.bytes / fate.segments.max(1) * wal.segments().count() as u64;
            marked.push(wal);
        }
    }
    (marked, bytes)
}
