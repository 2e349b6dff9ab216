//! Tombstones: what is marked for removal, until when it can be taken back, and what became of it.
//!
//! `tombstones/<id>` marks; `….lifted` takes the mark back, `….removing` names every object that goes, before
//! the first of them does, and `….removed` says that they are gone. A mark is due when its delay has passed since
//! it was stored, by the store's clock.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use holdfast_postgres::{
    Lsn, SegmentNo, SystemIdentifier, TimelineId, WalFileName, WalSegmentSize,
};
use holdfast_repository::{ObjectKind, PackId, Repository, RepositoryError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::error::{EngineError, Outcome, Result};
use crate::snapshot::cached_document;

/// Codes of refusals.
const MARKED: &str = "marked_for_removal";
pub(crate) const BEGUN: &str = "removal_begun";

const PREFIX: &str = "tombstones/";
const LIFTED: &str = ".lifted";
const REMOVING: &str = ".removing";
const REMOVED: &str = ".removed";

/// A mark for removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    /// UUID version 7.
    pub(crate) id: Uuid,
    /// The cluster whose retention was applied.
    pub(crate) cluster: Uuid,
    /// When, by the clock of the machine that applied it.
    pub(crate) marked_at: DateTime<Utc>,
    /// How long it can be taken back.
    pub(crate) delay_seconds: u64,
    /// The version of the policy that let go of it.
    pub(crate) policy_version: u64,
    pub(crate) snapshots: Vec<MarkedSnapshot>,
    pub(crate) wal: Vec<MarkedWal>,
    /// Lists of files that no snapshot has: of backups that were interrupted.
    pub(crate) files: Vec<String>,
    /// Packs that nothing needs when these snapshots are gone.
    pub(crate) packs: Vec<PackId>,
    /// About how many bytes go with it.
    pub(crate) bytes: u64,
}

/// A snapshot that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkedSnapshot {
    pub(crate) cluster: Uuid,
    pub(crate) id: Uuid,
}

/// A stretch of WAL that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkedWal {
    pub(crate) system: SystemIdentifier,
    pub(crate) timeline: TimelineId,
    pub(crate) segment_size: WalSegmentSize,
    pub(crate) from_lsn: Lsn,
    pub(crate) to_lsn: Lsn,
}

impl MarkedWal {
    /// Its segments.
    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentNo> + use<> {
        let first = self.segment_size.segment_of(self.from_lsn).0;
        let end = self.segment_size.segment_of(self.to_lsn).0;
        let partly = self.segment_size.floor(self.to_lsn) != self.to_lsn;
        (first..end + u64::from(partly)).map(SegmentNo)
    }

    /// Whether a file of WAL lies in it.
    pub(crate) fn holds(&self, system: SystemIdentifier, file: WalFileName) -> bool {
        self.system == system
            && self.timeline == file.timeline
            && self.segments().any(|segment| segment == file.segment)
    }
}

/// Every object that a removal takes away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Removal {
    pub(crate) id: Uuid,
    pub(crate) began_at: DateTime<Utc>,
    /// Of what the tombstone names, the snapshots that nothing keeps by now.
    pub(crate) snapshots: Vec<MarkedSnapshot>,
    /// The same of its WAL.
    pub(crate) wal: Vec<MarkedWal>,
    pub(crate) objects: Vec<String>,
}

/// Where a tombstone stands.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// It can be taken back.
    Standing,
    /// It was taken back.
    Lifted,
    /// Its objects are being removed, or that was interrupted.
    Removing(Removal),
    /// They are gone.
    Removed(Removal),
}

/// A tombstone in the repository.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    pub(crate) tombstone: Tombstone,
    /// From then on it may be carried out, by the store's clock.
    pub(crate) due_at: DateTime<Utc>,
    pub(crate) stage: Stage,
}

impl Marked {
    /// Whether it still means something.
    pub(crate) fn stands(&self) -> bool {
        matches!(self.stage, Stage::Standing | Stage::Removing(_))
    }

    /// The packs that go with it, if nothing happens.
    pub(crate) fn packs(&self) -> Vec<PackId> {
        match &self.stage {
            Stage::Standing => self.tombstone.packs.clone(),
            Stage::Removing(removal) => {
                removal.objects.iter().filter_map(|path| PackId::parse_path(path)).collect()
            }
            Stage::Lifted | Stage::Removed(_) => Vec::new(),
        }
    }

    /// The snapshots and the WAL that go with it, if nothing happens.
    pub(crate) fn going(&self) -> (&[MarkedSnapshot], &[MarkedWal]) {
        match &self.stage {
            Stage::Standing => (&self.tombstone.snapshots, &self.tombstone.wal),
            Stage::Removing(removal) => (&removal.snapshots, &removal.wal),
            Stage::Lifted | Stage::Removed(_) => (&[], &[]),
        }
    }
}

/// Every tombstone of a repository, oldest first.
pub(crate) async fn all(catalog: &Catalog, repository: &Repository) -> Result<Vec<Marked>> {
    let entries = repository.list(PREFIX).await?;
    let there: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    let mut marked = Vec::new();
    for entry in &entries {
        let path = entry.path.as_str();
        if [LIFTED, REMOVING, REMOVED].iter().any(|suffix| path.ends_with(suffix)) {
            continue;
        }
        let tombstone: Tombstone = read(catalog, repository, path).await?;
        let has = |suffix: &str| there.contains(format!("{path}{suffix}").as_str());
        let removing = format!("{path}{REMOVING}");
        let stage = if has(REMOVED) {
            Stage::Removed(read(catalog, repository, &removing).await?)
        } else if has(LIFTED) && !has(REMOVING) {
            Stage::Lifted
        } else if has(REMOVING) {
            // Never out of the catalog: until something was removed it may be taken back, and another one follow.
            match repository.get_document(&removing, ObjectKind::Tombstone).await {
                Ok(removal) => Stage::Removing(removal),
                Err(RepositoryError::NotFound { .. }) => Stage::Standing,
                Err(error) => return Err(error.into()),
            }
        } else {
            Stage::Standing
        };
        let delay = i64::try_from(tombstone.delay_seconds).ok().and_then(TimeDelta::try_seconds);
        let due_at = delay
            .and_then(|delay| entry.modified.checked_add_signed(delay))
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        marked.push(Marked { tombstone, due_at, stage });
    }
    Ok(marked)
}

async fn read<T: serde::de::DeserializeOwned + Serialize>(
    catalog: &Catalog,
    repository: &Repository,
    path: &str,
) -> Result<T> {
    cached_document(catalog, repository, path, ObjectKind::Tombstone).await
}

/// The id of a mark as somebody wrote it; what is none names no mark.
///
/// # Errors
/// [`EngineError::NotFound`].
pub fn parse_mark(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| no_mark(text))
}

pub(super) fn no_mark(name: &str) -> EngineError {
    EngineError::NotFound { what: "mark for removal", name: name.to_owned() }
}

/// Marks.
pub(crate) async fn place(repository: &Repository, tombstone: &Tombstone) -> Result<()> {
    put(repository, &format!("{PREFIX}{}", tombstone.id), tombstone).await
}

/// Takes a mark back.
pub(crate) async fn lift(repository: &Repository, id: Uuid) -> Result<()> {
    put(repository, &format!("{PREFIX}{id}{LIFTED}"), &(id, Utc::now())).await
}

/// Names what is removed, before it is.
pub(crate) async fn begin(repository: &Repository, removal: &Removal) -> Result<()> {
    put(repository, &format!("{PREFIX}{}{REMOVING}", removal.id), removal).await
}

/// Takes back what [`begin`] said, before anything was removed.
pub(crate) async fn forget(repository: &Repository, id: Uuid) -> Result<()> {
    Ok(repository.delete(&format!("{PREFIX}{id}{REMOVING}")).await?)
}

/// Whether a removal has begun: of this snapshot, or of anything when none is given.
pub(crate) async fn is_being_removed(
    catalog: &Catalog,
    repository: &Repository,
    snapshot: Option<Uuid>,
) -> Result<bool> {
    let marked = all(catalog, repository).await?;
    Ok(marked
        .iter()
        .filter(|m| matches!(m.stage, Stage::Removing(_)))
        .any(|m| snapshot.is_none_or(|id| m.going().0.iter().any(|going| going.id == id))))
}

/// Says that it is gone.
pub(crate) async fn end(repository: &Repository, id: Uuid) -> Result<()> {
    put(repository, &format!("{PREFIX}{id}{REMOVED}"), &(id, Utc::now())).await
}

async fn put<T: Serialize>(repository: &Repository, path: &str, body: &T) -> Result<()> {
    Ok(repository.put_document(path, ObjectKind::Tombstone, body).await?)
}

/// Packs that nothing may be shared with any more. Read after a lease was taken: a removal waits for leases
/// that are older than its mark is due.
pub(crate) async fn avoided_packs(
    catalog: &Catalog,
    repository: &Repository,
) -> Result<HashSet<PackId>> {
    let marked = all(catalog, repository).await?;
    Ok(marked.iter().flat_map(Marked::packs).collect())
}

/// Snapshots that are marked for removal.
pub(crate) async fn marked_snapshots(
    catalog: &Catalog,
    repository: &Repository,
) -> Result<HashSet<Uuid>> {
    let marked = all(catalog, repository).await?;
    Ok(marked.iter().flat_map(|m| m.going().0).map(|snapshot| snapshot.id).collect())
}

/// The same as [`all`] for who only reads: a document that is damaged is left to a verification.
pub(crate) async fn readable(catalog: &Catalog, repository: &Repository) -> Result<Vec<Marked>> {
    match all(catalog, repository).await {
        Err(error) if matches!(error.outcome(), Outcome::Integrity) => {
            tracing::warn!(%error, "the marks for removal cannot be read, and are not honoured");
            Ok(Vec::new())
        }
        other => other,
    }
}

/// Every object that was removed on purpose.
pub(crate) async fn removed_objects(
    catalog: &Catalog,
    repository: &Repository,
) -> Result<BTreeSet<String>> {
    Ok(removed_by(&readable(catalog, repository).await?))
}

/// What these marks have removed, or begun to.
pub(crate) fn removed_by(marked: &[Marked]) -> BTreeSet<String> {
    let removals = marked.iter().filter_map(|marked| match &marked.stage {
        Stage::Removing(removal) | Stage::Removed(removal) => Some(removal),
        Stage::Standing | Stage::Lifted => None,
    });
    removals.flat_map(|removal| removal.objects.iter().cloned()).collect()
}

/// Refuses to read what may be removed at any moment: what a mark names that was due when the reader's lease
/// began. For a lease that is older a removal waits. With `planned_before` also what was removed since: the reader
/// has chosen before it had its lease, and waited.
///
/// # Errors
/// Refused.
pub(crate) async fn refuse_due(
    catalog: &Catalog,
    repository: &Repository,
    since: DateTime<Utc>,
    planned_before: bool,
    snapshot: Uuid,
    needs: impl Fn(&MarkedWal) -> bool,
) -> Result<()> {
    for marked in readable(catalog, repository).await? {
        if marked.due_at > since && matches!(marked.stage, Stage::Standing) {
            continue;
        }
        let (snapshots, wal) = match &marked.stage {
            Stage::Removed(removal) if planned_before => (&removal.snapshots[..], &removal.wal[..]),
            _ => marked.going(),
        };
        if !snapshots.iter().any(|s| s.id == snapshot) && !wal.iter().any(&needs) {
            continue;
        }
        let day = marked.tombstone.marked_at.format("%Y-%m-%d");
        return Err(match marked.stage {
            Stage::Removing(_) | Stage::Removed(_) => EngineError::refused(
                BEGUN,
                format!("what this needs was marked for removal on {day} and is removed"),
                "Look in a replica: what is removed here goes there with the next replication only.",
            ),
            _ => EngineError::refused(
                MARKED,
                format!(
                    "what this needs was marked for removal on {day} and may be removed at any moment"
                ),
                "Take the mark back with `holdfast retention undelete`, place a hold so that it is not marked again, \
                 and then restore.",
            ),
        });
    }
    Ok(())
}

/// Whether an error is one of [`refuse_due`]'s.
pub(crate) fn is_refusal(error: &EngineError) -> bool {
    matches!(error, EngineError::Refused { code: MARKED | BEGUN, .. })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_ends_before_its_end() {
        let segment_size = WalSegmentSize::DEFAULT;
        let stretch = |from: u64, to: u64| MarkedWal {
            system: SystemIdentifier(7),
            timeline: TimelineId::FIRST,
            segment_size,
            from_lsn: Lsn(from),
            to_lsn: Lsn(to),
        };
        let numbers = |w: MarkedWal| w.segments().map(|n| n.0).collect::<Vec<_>>();
        assert_eq!(numbers(stretch(2 << 24, 4 << 24)), [2, 3]);
        assert_eq!(numbers(stretch(2 << 24, (3 << 24) + 8)), [2, 3]);
        assert!(numbers(stretch(2 << 24, 2 << 24)).is_empty());
    }
}
