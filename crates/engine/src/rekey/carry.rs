//! What goes into the new repository, and in which order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_repository::{
    CarriedFiles, ObjectEntry, ObjectKind, Rekey, Repository, RepositoryError,
};
use uuid::Uuid;

use super::{MARK_PREFIX, in_use};
use crate::Engine;
use crate::archive::{SLICES_FOLDER, WAL_FOLDER};
use crate::cluster::cluster_documents_prefix;
use crate::error::{EngineError, Result};
use crate::jobs::JobContext;
use crate::replication::{HeldBack, places};
use crate::retention::tombstone;
use crate::snapshot::{Snapshot, is_manifest};

/// Objects carried at a time, beside extents.
const AT_ONCE: usize = 4;
/// Larger ones, in bytes, are carried one by one.
const LARGE: u64 = 64 << 20;
/// Whoever goes on writing to the old repository is followed so often; what is new then is little.
const PASSES: usize = 4;

/// What has been carried so far.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) snapshots: u64,
    pub(super) objects: u64,
    /// What was there before the first pass.
    pub(super) there: Option<u64>,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_stored: u64,
    pub(super) held_back: Vec<HeldBack>,
    pub(super) left: Vec<HeldBack>,
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

/// One run.
pub(super) struct Run<'a> {
    engine: &'a Engine,
    job: &'a JobContext,
    rekey: Rekey,
    old: &'a Repository,
    new: &'a Repository,
    pub(super) carried: Carried,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        job: &'a JobContext,
        old: &'a Repository,
        new: &'a Repository,
    ) -> Result<Self> {
        let rekey = Rekey::new(old.clone(), new.clone())?;
        Ok(Self { engine, job, rekey, old, new, carried: Carried::default() })
    }

    /// Carries everything, and then what has come meanwhile.
    pub(super) async fn all(&mut self) -> Result<()> {
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
        // Retention of the new one has removed it since an earlier run: it does not come back.
        let removed = tombstone::removed_objects(self.engine.catalog(), self.new).await?;
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
            if there.contains(&entry.path) || removed.contains(&entry.path) {
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
    async fn going(&self) -> Result<BTreeSet<String>> {
        let marked = tombstone::all(self.engine.catalog(), self.old).await?;
        Ok(tombstone::removed_by(&marked))
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
