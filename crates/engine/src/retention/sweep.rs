//! Removing what was marked and is due.
//!
//! Nothing is removed that the plan of this moment keeps, that any manifest of this moment needs, or that
//! somebody may be using. Backups and whoever reads hold a lease; a removal waits for all of them, and looks again
//! after it has written down what goes. Who reads takes its lease and then waits while somebody removes. A backup
//! that begins meanwhile shares nothing with packs that are marked. Restores refuse by themselves what is due.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::Utc;
use holdfast_postgres::{Lsn, SystemIdentifier, TimelineId};
use holdfast_repository::{FileTableRef, Lease, LeaseInfo, PackId, Repository};
use uuid::Uuid;

use super::apply::{KeptByStore, Locked, Manifests, RemovedTotals, Waiting};
use super::locks;
use super::report::RetentionPlan;
use super::tombstone::{self, Marked, MarkedSnapshot, MarkedWal, Removal, Stage, Tombstone};
use crate::Engine;
use crate::archive::ledger::{Retired, record_retired, without};
use crate::archive::{segment_path, slice_directory};
use crate::cluster::Cluster;
use crate::error::Result;
use crate::jobs::JobContext;
use crate::lease::{COLLECTION, HeldLease};
use crate::snapshot::{Snapshot, is_manifest};

/// Removing what is due of one cluster.
pub(super) struct Sweep<'a> {
    pub(super) engine: &'a Engine,
    pub(super) job: &'a JobContext,
    pub(super) repository: &'a Repository,
    pub(super) collection: &'a HeldLease,
    pub(super) cluster: &'a Cluster,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Swept {
    pub(super) removed: RemovedTotals,
    pub(super) spared: Vec<String>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) locked: Vec<Locked>,
    pub(super) kept_by_store: Vec<KeptByStore>,
}

/// What goes with one tombstone.
struct Leaving {
    snapshots: Vec<MarkedSnapshot>,
    wal: Vec<MarkedWal>,
}

/// Packs by what becomes of them.
struct PackFates {
    /// Needed by the snapshots that were counted.
    needed: HashSet<PackId>,
    /// Snapshots whose packs are in `needed`.
    counted: HashSet<Uuid>,
    /// Those of the removals that have begun: nothing may be left to rely on them.
    going: HashSet<PackId>,
    /// Those of the tombstones that are due now.
    due: HashSet<PackId>,
}

impl Leaving {
    /// Leaves the WAL alone without which a snapshot is not consistent that does not go: one that was marked
    /// with other WAL, and taken back.
    fn spare_wal_of<'a>(&mut self, staying: impl Iterator<Item = &'a Snapshot>) {
        let needed: Vec<(SystemIdentifier, Lsn, Lsn)> = staying
            .map(|s| {
                let size = s.segment_size;
                let end = size.end_of(size.segment_of(s.stop_lsn));
                (s.system_identifier, size.floor(s.start_lsn), end)
            })
            .collect();
        // On every timeline: which of them serves a segment where they fork is decided elsewhere.
        self.wal = std::mem::take(&mut self.wal)
            .into_iter()
            .flat_map(|wal| {
                let own = needed.iter().filter(|(system, ..)| *system == wal.system);
                let own: Vec<_> = own.map(|(_, from, to)| (*from, *to)).collect();
                without(vec![(wal.from_lsn, wal.to_lsn)], &own)
                    .into_iter()
                    .map(move |(from_lsn, to_lsn)| MarkedWal { from_lsn, to_lsn, ..wal })
            })
            .collect();
    }
}

impl Sweep<'_> {
    /// Removes what is due, and goes on with what was begun.
    pub(super) async fn run(&self, marked: &[Marked]) -> Result<Swept> {
        let mut swept = Swept::default();
        // Who begins after this list is read finds the lease of whoever collects, and waits.
        let leases = Lease::list(self.repository, "").await?;
        let plan = self.engine.retention_plan(&self.cluster.name).await?;
        let own = marked.iter().filter(|m| plan.clusters.contains(&m.tombstone.cluster));
        let (mut due, mut begun): (Vec<&Marked>, Vec<&Marked>) = (Vec::new(), Vec::new());
        for marked in own {
            let list = match marked.stage {
                Stage::Removing(_) => &mut begun,
                Stage::Standing if marked.due_at <= self.collection.since() => &mut due,
                _ => continue,
            };
            match blocker(&leases) {
                Some(lease) => swept.waiting.push(waiting(marked, lease)),
                None => list.push(marked),
            }
        }
        if due.is_empty() && begun.is_empty() {
            return Ok(swept);
        }
        Lease::remove_left(self.repository, COLLECTION).await?;
        for marked in begun {
            let leases = Lease::list(self.repository, "").await?;
            if let Some(lease) = blocker(&leases) {
                swept.waiting.push(waiting(marked, lease));
            } else if let Stage::Removing(removal) = &marked.stage {
                self.remove(removal, &self.sizes().await?, &mut swept).await?;
            }
        }
        if due.is_empty() {
            return Ok(swept);
        }
        let manifests = self.engine.manifests(self.repository).await?;
        let dying = Dying::of(&plan);
        let gone: HashSet<Uuid> = due
            .iter()
            .flat_map(|marked| dying.part_of(&marked.tombstone).snapshots)
            .map(|snapshot| snapshot.id)
            .collect();
        let mut fates = PackFates {
            needed: HashSet::new(),
            counted: manifests.0.keys().filter(|id| !gone.contains(id)).copied().collect(),
            going: begun_packs(marked),
            due: due.iter().flat_map(|marked| &marked.tombstone.packs).copied().collect(),
        };
        fates.needed = self.packs_needed(&manifests.tables_without(&gone), &fates).await?;
        for marked in due {
            self.carry_out(marked, &mut fates, &mut swept).await?;
        }
        Ok(swept)
    }

    async fn packs_needed(
        &self,
        tables: &[FileTableRef],
        fates: &PackFates,
    ) -> Result<HashSet<PackId>> {
        let all: HashSet<PackId> = fates.due.union(&fates.going).copied().collect();
        Ok(self.repository.packs_needed(tables, &[&all, &fates.going]).await?)
    }

    /// Every object of the repository, with its size.
    async fn sizes(&self) -> Result<BTreeMap<String, u64>> {
        let listed = self.repository.list("").await?;
        Ok(listed.into_iter().map(|entry| (entry.path, entry.size)).collect())
    }

    /// What still goes with a tombstone, by the plan and the manifests of this moment.
    async fn leaving(&self, tombstone: &Tombstone, now: &Manifests) -> Result<Leaving> {
        let plan = self.engine.retention_plan(&self.cluster.name).await?;
        let mut leaving = Dying::of(&plan).part_of(tombstone);
        let gone: HashSet<Uuid> = leaving.snapshots.iter().map(|snapshot| snapshot.id).collect();
        leaving.spare_wal_of(now.0.values().filter(|snapshot| !gone.contains(&snapshot.id)));
        Ok(leaving)
    }

    /// Removes what goes with one tombstone.
    async fn carry_out(
        &self,
        marked: &Marked,
        fates: &mut PackFates,
        swept: &mut Swept,
    ) -> Result<()> {
        self.job.check()?;
        let tombstone = &marked.tombstone;
        // Somebody may have begun since.
        let leases = Lease::list(self.repository, "").await?;
        if let Some(lease) = blocker(&leases) {
            swept.waiting.push(waiting(marked, lease));
            return Ok(());
        }
        let now = self.engine.manifests(self.repository).await?;
        let leaving = self.leaving(tombstone, &now).await?;
        let gone: HashSet<Uuid> = leaving.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let sizes = self.sizes().await?;
        // Of backups that have ended since they were counted, and of what is spared by now.
        let more: Vec<&Snapshot> = now
            .0
            .values()
            .filter(|s| !gone.contains(&s.id) && !fates.counted.contains(&s.id))
            .collect();
        let tables: Vec<_> = more.iter().map(|snapshot| snapshot.file_table.clone()).collect();
        let needed = self.packs_needed(&tables, fates).await?;
        let packs: HashSet<PackId> = tombstone
            .packs
            .iter()
            .filter(|pack| !fates.needed.contains(pack) && !needed.contains(pack))
            .filter(|pack| sizes.contains_key(&pack.path()))
            .copied()
            .collect();
        let mut objects = Vec::new();
        for snapshot in leaving.snapshots.iter().filter_map(|s| now.0.get(&s.id)) {
            objects.extend([snapshot.path(), snapshot.file_table.path.clone()]);
        }
        let named: HashSet<&str> =
            now.0.values().map(|snapshot| snapshot.file_table.path.as_str()).collect();
        objects.extend(tombstone.files.iter().filter(|f| !named.contains(f.as_str())).cloned());
        for wal in &leaving.wal {
            objects.extend(wal_objects(wal, &sizes));
        }
        let locked: Vec<String> =
            objects.iter().cloned().chain(packs.iter().map(PackId::path)).collect();
        match locks::kept_until(self.repository.store(), locked, self.collection.since()).await {
            Ok(None) => {}
            Ok(Some(until)) => {
                swept.locked.push(Locked { id: tombstone.id.to_string(), until });
                return Ok(());
            }
            // The others need not wait for it.
            Err(error) => {
                let object = format!("tombstones/{}", tombstone.id);
                let message = format!("its locks could not be read: {error}");
                swept.kept_by_store.push(KeptByStore { object, message });
                return Ok(());
            }
        }
        // Nor with packs of a removal that has begun, which may end later than this one.
        let leaving_packs = packs.union(&fates.going).copied().collect();
        objects.extend(self.repository.reindex_without(&leaving_packs).await?);
        objects.extend(packs.iter().map(PackId::path));
        let spared = tombstone.snapshots.iter().filter(|snapshot| !gone.contains(&snapshot.id));
        let there = spared.filter(|snapshot| now.0.contains_key(&snapshot.id));
        swept.spared.extend(there.map(|snapshot| snapshot.id.to_string()));
        let Leaving { snapshots, wal } = leaving;
        let removal = Removal { id: tombstone.id, began_at: Utc::now(), snapshots, wal, objects };
        // Only who has held the lease all the time knows that nobody else does the same, or has taken it back.
        self.collection.check().await?;
        tombstone::begin(self.repository, &removal).await?;
        match self.look_again(marked, &now, &removal, swept).await {
            Ok(true) => {}
            other => {
                tombstone::forget(self.repository, tombstone.id).await?;
                return other.map(drop);
            }
        }
        fates.going.extend(&packs);
        self.remove(&removal, &sizes, swept).await
    }

    /// Whether everything is still as it was when a removal was written down. Whoever places a hold or begins to
    /// read after that finds the document; what they did before is found here.
    async fn look_again(
        &self,
        marked: &Marked,
        now: &Manifests,
        removal: &Removal,
        swept: &mut Swept,
    ) -> Result<bool> {
        self.collection.check().await?;
        let leases = Lease::list(self.repository, "").await?;
        if let Some(lease) = blocker(&leases) {
            swept.waiting.push(waiting(marked, lease));
            return Ok(false);
        }
        let leaving = self.leaving(&marked.tombstone, now).await?;
        let kept =
            removal.snapshots.iter().filter(|snapshot| !leaving.snapshots.contains(snapshot));
        swept.spared.extend(kept.map(|snapshot| snapshot.id.to_string()));
        Ok(leaving.snapshots == removal.snapshots && leaving.wal == removal.wal)
    }

    /// Removes the objects of a removal that has begun, this time or earlier.
    async fn remove(
        &self,
        removal: &Removal,
        sizes: &BTreeMap<String, u64>,
        swept: &mut Swept,
    ) -> Result<()> {
        // Before anything of it goes.
        for (system, stretches) in retired(&removal.wal) {
            record_retired(self.repository, system, &stretches).await?;
        }
        let there: Vec<String> =
            removal.objects.iter().filter(|path| sizes.contains_key(*path)).cloned().collect();
        self.job.reporter.phase("removing", Some("objects"), Some(there.len() as u64));
        let progress = |done| self.job.reporter.done(done);
        let outcome = self.repository.remove_objects(&there, &progress, &self.job.cancel).await?;
        let totals = &mut swept.removed;
        for path in &outcome.gone {
            totals.objects += 1;
            totals.bytes += sizes.get(path).copied().unwrap_or_default();
            totals.packs += u64::from(PackId::parse_path(path).is_some());
            totals.wal_segments += u64::from(path.starts_with("wal/"));
            if is_manifest(path) {
                totals.snapshots.extend(path.rsplit('/').next().map(str::to_owned));
            }
        }
        if outcome.kept.is_empty() {
            tombstone::end(self.repository, removal.id).await?;
        }
        self.engine.catalog().forget_objects(self.repository.id(), &outcome.gone).await?;
        let kept = outcome.kept.into_iter();
        swept.kept_by_store.extend(kept.map(|(object, message)| KeptByStore { object, message }));
        Ok(())
    }
}

/// Whose lease a removal waits for: whoever reads may have found what it reads in a pack that goes, and a backup may
/// have taken something over before that was marked.
fn blocker(leases: &[LeaseInfo]) -> Option<&LeaseInfo> {
    leases.iter().find(|lease| lease.alive && lease.name != COLLECTION)
}

fn waiting(marked: &Marked, lease: &LeaseInfo) -> Waiting {
    Waiting {
        id: marked.tombstone.id.to_string(),
        holder: lease.holder.clone(),
        until: lease.until,
    }
}

/// The packs of every removal that has begun, of any cluster.
fn begun_packs(marked: &[Marked]) -> HashSet<PackId> {
    let begun = marked.iter().filter_map(|marked| match &marked.stage {
        Stage::Removing(removal) => Some(&removal.objects),
        _ => None,
    });
    begun.flatten().filter_map(|path| PackId::parse_path(path)).collect()
}

/// What the plan of now does not keep.
struct Dying {
    snapshots: HashSet<String>,
    wal: HashMap<(SystemIdentifier, TimelineId), Vec<(Lsn, Lsn)>>,
}

impl Dying {
    fn of(plan: &RetentionPlan) -> Self {
        let mut wal: HashMap<_, Vec<_>> = HashMap::new();
        for fate in plan.wal.iter().filter(|fate| !fate.kept) {
            let key = (fate.system_identifier, fate.timeline);
            wal.entry(key).or_default().push((fate.from_lsn, fate.to_lsn));
        }
        let snapshots = plan.snapshots.iter().filter(|fate| !fate.kept);
        Self { snapshots: snapshots.map(|fate| fate.id.clone()).collect(), wal }
    }

    /// What of a tombstone still dies.
    fn part_of(&self, tombstone: &Tombstone) -> Leaving {
        let dies = |snapshot: &&MarkedSnapshot| self.snapshots.contains(&snapshot.id.to_string());
        let mut wal = Vec::new();
        for marked in &tombstone.wal {
            let dying =
                self.wal.get(&(marked.system, marked.timeline)).map_or(&[][..], Vec::as_slice);
            for (from, to) in dying {
                let (from_lsn, to_lsn) = (marked.from_lsn.max(*from), marked.to_lsn.min(*to));
                if from_lsn < to_lsn {
                    wal.push(MarkedWal { from_lsn, to_lsn, ..*marked });
                }
            }
        }
        Leaving { snapshots: tombstone.snapshots.iter().filter(dies).copied().collect(), wal }
    }
}

/// The objects of a stretch of WAL that are there: whole segments, a timeline's tail, slices.
pub(super) fn wal_objects(wal: &MarkedWal, there: &BTreeMap<String, u64>) -> Vec<String> {
    let mut objects = Vec::new();
    for segment in wal.segments() {
        let whole = segment_path(wal.system, wal.timeline, segment, wal.segment_size);
        let partial = format!("{whole}.partial");
        objects.extend([whole, partial].into_iter().filter(|path| there.contains_key(path)));
        let slices = slice_directory(wal.system, wal.timeline, segment, wal.segment_size);
        let range = there.range(slices.clone()..).take_while(|(path, _)| path.starts_with(&slices));
        objects.extend(range.map(|(path, _)| path.clone()));
    }
    objects
}

/// The stretches by system, as the ledger notes them.
fn retired(wal: &[MarkedWal]) -> HashMap<SystemIdentifier, Vec<Retired>> {
    let mut stretches: HashMap<_, Vec<_>> = HashMap::new();
    for each in wal {
        stretches.entry(each.system).or_default().push(Retired {
            timeline: each.timeline,
            from_lsn: each.segment_size.floor(each.from_lsn),
            to_lsn: each.to_lsn,
            at: Utc::now(),
        });
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::snapshot;

    const SEGMENT: u64 = 16 << 20;

    fn wal(system: u64, from: u64, to: u64) -> MarkedWal {
        MarkedWal {
            system: SystemIdentifier(system),
            timeline: TimelineId::FIRST,
            segment_size: holdfast_postgres::WalSegmentSize::DEFAULT,
            from_lsn: Lsn(from * SEGMENT),
            to_lsn: Lsn(to * SEGMENT),
        }
    }

    /// Failure catalogue 28: a snapshot that was taken back keeps the WAL that it needs, whatever mark names it.
    #[test]
    fn catalogue_28_a_snapshot_that_was_taken_back_keeps_its_wal() {
        let mut leaving = Leaving { snapshots: Vec::new(), wal: vec![wal(7, 2, 9), wal(8, 2, 9)] };
        let back = snapshot(SystemIdentifier(7), Lsn(4 * SEGMENT + 40), Lsn(5 * SEGMENT + 8));
        leaving.spare_wal_of(std::iter::once(&back));
        assert_eq!(leaving.wal, [wal(7, 2, 4), wal(7, 6, 9), wal(8, 2, 9)]);
    }

    #[test]
    fn the_objects_of_a_segment_are_all_that_have_its_name() {
        let name = "000000010000000000000002";
        let paths = [
            format!("wal/7/00000001/{name}"),
            format!("wal/7/00000001/{name}.partial"),
            format!("slices/7/00000001/{name}/00000000-000000ff"),
            "wal/7/00000001/000000010000000000000003".to_owned(),
            "wal/7/00000002/000000020000000000000002".to_owned(),
            "wal/8/00000001/000000010000000000000002".to_owned(),
        ];
        let there = paths.iter().map(|path| (path.clone(), 1)).collect();
        assert_eq!(wal_objects(&wal(7, 2, 3), &there), paths[..3]);
    }
}
