//! Removing what was marked and is due.
//!
//! Nothing is removed that the plan of this moment keeps, that any manifest of this moment needs, or that
//! somebody may be reading: a removal waits for every lease that is older than the moment at which it became due.
//! Younger restores refuse what is due by themselves, and younger backups share nothing with packs that are marked.
//! Replications, verifications and exports read everything, and are always waited for.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{TimeDelta, Utc};
use holdfast_postgres::{Lsn, SystemIdentifier, TimelineId};
use holdfast_repository::{Lease, LeaseInfo, PackId, Repository};
use uuid::Uuid;

use super::apply::{COLLECTION, KeptByStore, Manifests, RemovedTotals, Waiting};
use super::report::RetentionPlan;
use super::tombstone::{self, Marked, MarkedSnapshot, MarkedWal, Removal, Stage, Tombstone};
use crate::Engine;
use crate::archive::ledger::{Retired, record_retired, without};
use crate::archive::{segment_path, slice_directory};
use crate::error::Result;
use crate::jobs::{JobContext, JobKind};
use crate::lease::HeldLease;
use crate::snapshot::Snapshot;

/// Stores tell times in whole seconds, some of them.
const CLOCK_STEP: TimeDelta = TimeDelta::seconds(1);

/// Removing what is due of one cluster.
pub(super) struct Sweep<'a> {
    pub(super) engine: &'a Engine,
    pub(super) job: &'a JobContext,
    pub(super) repository: &'a Repository,
    pub(super) collection: &'a HeldLease,
    pub(super) plan: &'a RetentionPlan,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Swept {
    pub(super) removed: RemovedTotals,
    pub(super) spared: Vec<String>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) kept_by_store: Vec<KeptByStore>,
}

/// What goes with one tombstone.
struct Leaving {
    snapshots: Vec<MarkedSnapshot>,
    wal: Vec<MarkedWal>,
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
    /// Removes; what is gone is taken out of `manifests`.
    pub(super) async fn run(
        &self,
        cluster: Uuid,
        marked: &[Marked],
        manifests: &mut Manifests,
    ) -> Result<Swept> {
        let mut swept = Swept::default();
        let own = || marked.iter().filter(|m| m.tombstone.cluster == cluster);
        for marked in own() {
            if let Stage::Removing(removal) = &marked.stage {
                let sizes = self.sizes().await?;
                self.remove(removal, &sizes, &mut swept).await?;
                manifests.0.retain(|_, s| !removal.objects.contains(&s.path()));
            }
        }
        let due: Vec<&Marked> = own()
            .filter(|m| matches!(m.stage, Stage::Standing) && m.due_at <= self.collection.since())
            .collect();
        if due.is_empty() {
            return Ok(swept);
        }
        Lease::remove_left(self.repository, COLLECTION).await?;
        let leases = Lease::list(self.repository, "").await?;
        let mut free = Vec::new();
        for marked in due {
            match blocker(&leases, marked) {
                Some(lease) => swept.waiting.push(Waiting {
                    id: marked.tombstone.id.to_string(),
                    holder: lease.holder.clone(),
                    until: lease.until,
                }),
                None => free.push(&marked.tombstone),
            }
        }
        let dying = Dying::of(self.plan);
        let mut leaving: Vec<(&Tombstone, Leaving)> =
            free.into_iter().map(|tombstone| (tombstone, dying.part_of(tombstone))).collect();
        for (tombstone, leaving) in &leaving {
            let spared = tombstone.snapshots.iter().filter(|s| !leaving.snapshots.contains(s));
            let there = spared.filter(|snapshot| manifests.0.contains_key(&snapshot.id));
            swept.spared.extend(there.map(|snapshot| snapshot.id.to_string()));
        }
        let gone: HashSet<Uuid> =
            leaving.iter().flat_map(|(_, l)| &l.snapshots).map(|s| s.id).collect();
        for (_, leaving) in &mut leaving {
            let staying = manifests.0.values().filter(|snapshot| !gone.contains(&snapshot.id));
            leaving.spare_wal_of(staying);
        }
        let packs = leaving.iter().flat_map(|(tombstone, _)| &tombstone.packs).copied().collect();
        let tables = manifests.tables_without(&gone);
        let needed = self.repository.packs_needed(&tables, &packs).await?;
        for (tombstone, leaving) in leaving {
            self.carry_out(tombstone, &leaving, manifests, &needed, &mut swept).await?;
        }
        manifests.0.retain(|id, _| !gone.contains(id));
        Ok(swept)
    }

    /// Every object of the repository, with its size.
    async fn sizes(&self) -> Result<BTreeMap<String, u64>> {
        let listed = self.repository.list("").await?;
        Ok(listed.into_iter().map(|entry| (entry.path, entry.size)).collect())
    }

    /// Removes what goes with one tombstone.
    async fn carry_out(
        &self,
        tombstone: &Tombstone,
        leaving: &Leaving,
        manifests: &Manifests,
        needed: &HashSet<PackId>,
        swept: &mut Swept,
    ) -> Result<()> {
        self.job.check()?;
        let sizes = self.sizes().await?;
        let mut packs: HashSet<PackId> = tombstone
            .packs
            .iter()
            .filter(|pack| !needed.contains(pack) && sizes.contains_key(&pack.path()))
            .copied()
            .collect();
        // A backup that has ended since they were read.
        let now = self.engine.manifests(self.repository).await?;
        let new: Vec<&Snapshot> =
            now.0.values().filter(|s| !manifests.0.contains_key(&s.id)).collect();
        let tables: Vec<_> = new.iter().map(|snapshot| snapshot.file_table.clone()).collect();
        for pack in self.repository.packs_needed(&tables, &packs).await? {
            packs.remove(&pack);
        }
        let mut objects = Vec::new();
        for snapshot in leaving.snapshots.iter().filter_map(|s| manifests.0.get(&s.id)) {
            objects.extend([snapshot.path(), snapshot.file_table.path.clone()]);
        }
        let named: HashSet<&str> =
            now.0.values().map(|snapshot| snapshot.file_table.path.as_str()).collect();
        objects.extend(tombstone.files.iter().filter(|f| !named.contains(f.as_str())).cloned());
        for wal in &leaving.wal {
            objects.extend(wal_objects(wal, &sizes));
        }
        objects.extend(self.repository.reindex_without(&packs).await?);
        objects.extend(packs.iter().map(PackId::path));
        let removal = Removal { id: tombstone.id, began_at: Utc::now(), objects };
        // Only who has held the lease all the time knows that nobody else does the same.
        self.collection.check().await?;
        for (system, stretches) in retired(&leaving.wal) {
            record_retired(self.repository, system, &stretches).await?;
        }
        tombstone::begin(self.repository, &removal).await?;
        self.remove(&removal, &sizes, swept).await
    }

    /// Removes the objects of a removal that has begun, this time or earlier.
    async fn remove(
        &self,
        removal: &Removal,
        sizes: &BTreeMap<String, u64>,
        swept: &mut Swept,
    ) -> Result<()> {
        let there: Vec<String> =
            removal.objects.iter().filter(|path| sizes.contains_key(*path)).cloned().collect();
        self.job.reporter.phase("removing", Some("objects"), Some(there.len() as u64));
        let progress = |done| self.job.reporter.done(done);
        let outcome = self.repository.remove_objects(&there, &progress, &self.job.cancel).await?;
        let kept: HashSet<&str> = outcome.kept.iter().map(|(path, _)| path.as_str()).collect();
        let gone = there.iter().filter(|path| !kept.contains(path.as_str()));
        let totals = &mut swept.removed;
        for path in gone {
            totals.objects += 1;
            totals.bytes += sizes.get(path).copied().unwrap_or_default();
            totals.packs += u64::from(path.starts_with("packs/"));
            totals.wal_segments += u64::from(path.starts_with("wal/"));
            if let Some((_, id)) = path.strip_prefix("snapshots/").and_then(|p| p.split_once('/'))
                && !id.contains('.')
            {
                totals.snapshots.push(id.to_owned());
            }
        }
        if outcome.kept.is_empty() {
            tombstone::end(self.repository, removal.id).await?;
        }
        self.engine.catalog().forget_objects(self.repository.id(), &there).await?;
        let kept = outcome.kept.into_iter();
        swept.kept_by_store.extend(kept.map(|(object, message)| KeptByStore { object, message }));
        Ok(())
    }
}

/// Whose lease a removal waits for: whoever began before it was due, and whoever reads everything there is.
fn blocker<'a>(leases: &'a [LeaseInfo], marked: &Marked) -> Option<&'a LeaseInfo> {
    let everything = [JobKind::Replication, JobKind::Verify, JobKind::Bundle];
    leases.iter().filter(|lease| lease.alive && lease.name != COLLECTION).find(|lease| {
        lease.since <= marked.due_at + CLOCK_STEP
            || everything.iter().any(|kind| lease.name.starts_with(kind.as_str()))
    })
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
fn wal_objects(wal: &MarkedWal, there: &BTreeMap<String, u64>) -> Vec<String> {
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
