//! Collection: letting go of packs that no snapshot needs, and of everything else that was marked for it.
//!
//! Who decides what goes is the caller. In which order it goes is decided here, so that whatever can be read
//! names only what is there: manifests, then lists of files, then index objects, then packs and WAL. An index
//! object that names a pack which goes is written anew without it before.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::container::Suite;
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::file_table::{FILES_SUFFIX, FileTableRef, SNAPSHOTS_PREFIX};
use crate::index::{INDEX_PREFIX, Index, IndexBody, IndexedPack, PACKS_PREFIX, PackId};
use crate::object::{ObjectKind, PutKind};
use crate::repository::Repository;
use crate::root::{KEYS_PREFIX, ROOT_PATH};
use crate::verify::in_folder;

/// Packs in an index object that is written anew.
const PACKS_PER_INDEX: usize = 128;
/// Objects removed at a time.
const IN_FLIGHT: usize = 8;

/// A pack that nothing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnneededPack {
    /// Which.
    pub pack: PackId,
    /// Its bytes.
    pub bytes: u64,
    /// When it was stored, by the store's clock: what is young may be of a backup that still runs.
    pub stored_at: DateTime<Utc>,
}

/// What a removal came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What is gone.
    pub gone: Vec<String>,
    /// What the store did not remove, with the reason: of a locked bucket, for one. What it names was not tried.
    pub kept: Vec<(String, String)>,
}

impl Repository {
    /// The packs that hold the content of these lists of files, and the bases of what is stored as a difference.
    /// An extent in several packs counts for one of them: for one outside of the first of the sets in `avoided`,
    /// else of the second, and so on. Where no pack holds it whole, all that know it are needed: what is damaged
    /// here may be mended from a replica, as long as nobody says that it may go.
    ///
    /// # Errors
    /// When a list or the index cannot be read, or a list needs an extent that nobody knows while there is a pack
    /// that cannot be read: what a snapshot needs is not known then.
    pub async fn packs_needed(
        &self,
        tables: &[FileTableRef],
        avoided: &[&HashSet<PackId>],
    ) -> Result<HashSet<PackId>> {
        let index = self.whole_index().await?;
        self.packs_in(&index, tables, avoided).await
    }

    /// The index with packs that no index object names: a snapshot may need them.
    async fn whole_index(&self) -> Result<Arc<Index>> {
        let index = self.load_index(true).await?;
        match index.damaged().first() {
            Some(damaged) => Err(RepositoryError::corrupt(INDEX_PREFIX, damaged.clone())),
            None => Ok(index),
        }
    }

    async fn packs_in(
        &self,
        index: &Index,
        tables: &[FileTableRef],
        avoided: &[&HashSet<PackId>],
    ) -> Result<HashSet<PackId>> {
        let mut needed = HashSet::new();
        for table in tables {
            let mut reader = self.read_file_table(table).await?;
            while let Some(entry) = reader.next().await? {
                for id in entry.extents.iter().filter(|id| !id.is_zero()) {
                    let outside = avoided.iter().find_map(|packs| index.packs_to_share(id, packs));
                    match outside.or_else(|| index.packs_to_share(id, &HashSet::new())) {
                        Some(packs) => needed.extend(packs),
                        // Only agents say where it is, or it is not there: everything that may hold it stays.
                        None => needed.extend(knowing(index, id, &table.path)?),
                    }
                }
            }
        }
        Ok(needed)
    }

    /// The packs whose content none of these lists of files needs, when what is also in packs outside of `leaving`
    /// is taken from there. A pack that cannot be read is not among them: what is in it is not known.
    ///
    /// # Errors
    /// As [`Repository::packs_needed`].
    pub async fn packs_unneeded(
        &self,
        tables: &[FileTableRef],
        leaving: &HashSet<PackId>,
    ) -> Result<Vec<UnneededPack>> {
        let listed = self.list(PACKS_PREFIX).await?;
        let index = self.whole_index().await?;
        let needed = self.packs_in(&index, tables, &[leaving]).await?;
        Ok(listed
            .into_iter()
            .filter_map(|entry| {
                let pack = PackId::parse_path(&entry.path)?;
                Some(UnneededPack { pack, bytes: entry.size, stored_at: entry.modified })
            })
            .filter(|unneeded| index.has_pack(&unneeded.pack) && !needed.contains(&unneeded.pack))
            .collect())
    }

    /// Writes index objects that name packs in `leaving` anew without them. Gives the old ones, which are to be
    /// removed with the packs: until then both count.
    ///
    /// # Errors
    /// When the store cannot be read or written, or an index object is damaged. What was written until then does
    /// no harm.
    pub async fn reindex_without(&self, leaving: &HashSet<PackId>) -> Result<Vec<String>> {
        let mut old = Vec::new();
        let mut staying: Vec<IndexedPack> = Vec::new();
        if leaving.is_empty() {
            return Ok(old);
        }
        for entry in self.list(INDEX_PREFIX).await? {
            // One that is damaged may name them: then they stay.
            let body = self.read_index_object(&entry.path).await?;
            if body.packs.iter().any(|pack| leaving.contains(&pack.pack)) {
                old.push(entry.path);
                staying.extend(body.packs.into_iter().filter(|p| !leaving.contains(&p.pack)));
            }
            while staying.len() >= PACKS_PER_INDEX {
                let rest = staying.split_off(PACKS_PER_INDEX);
                self.put_index(std::mem::replace(&mut staying, rest)).await?;
            }
        }
        if !staying.is_empty() {
            self.put_index(staying).await?;
        }
        Ok(old)
    }

    async fn put_index(&self, packs: Vec<IndexedPack>) -> Result<()> {
        let path = format!("{INDEX_PREFIX}/{}", Uuid::new_v4().simple());
        let body = IndexBody { packs };
        let (kind, mode) = (ObjectKind::Index, PutKind::CreateOnly);
        self.put_container(&path, kind, Suite::Empty, Vec::new(), &body, mode).await.map(drop)
    }

    /// Removes objects, those that name others first. What is gone already counts as removed. Running again
    /// goes on.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidArgument`] for `holdfast.json` and keys, before anything is removed; when the
    /// store cannot be reached; when cancelled.
    pub async fn remove_objects(
        &self,
        paths: &[String],
        progress: &(dyn Fn(u64) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Removed> {
        if let Some(path) = paths.iter().find(|p| *p == ROOT_PATH || in_folder(p, KEYS_PREFIX)) {
            let what = format!("{path} is not removed this way");
            return Err(RepositoryError::InvalidArgument { what });
        }
        let mut removed = Removed::default();
        let mut done = 0;
        for step in 0..STEPS {
            let now: Vec<String> =
                paths.iter().filter(|path| step_of(path) == step).cloned().collect();
            let mut running = futures_util::stream::iter(now)
                .map(|path| remove_one(self.clone(), path, cancel.clone()))
                .buffer_unordered(IN_FLIGHT);
            let kept_before = removed.kept.len();
            while let Some(outcome) = running.next().await {
                match outcome? {
                    (path, None) => removed.gone.push(path),
                    (path, Some(why)) => removed.kept.push((path, why)),
                }
                done += 1;
                progress(done);
            }
            // What is named by something that stayed stays too.
            if removed.kept.len() > kept_before {
                break;
            }
        }
        removed.gone.sort_unstable();
        removed.kept.sort_unstable();
        Ok(removed)
    }
}

/// The packs that know an extent which no pack holds whole.
fn knowing(index: &Index, id: &ExtentId, table: &str) -> Result<Vec<PackId>> {
    let packs: Vec<PackId> = index.packs_knowing(id).collect();
    match index.unknown().first() {
        // It may be in there as a difference, and from what nobody can tell.
        Some(unknown) if packs.is_empty() => Err(RepositoryError::corrupt(
            unknown.path(),
            format!("it cannot be read, and {table} needs an extent that no other pack holds"),
        )),
        _ => Ok(packs),
    }
}

/// Removes one object; why not, when the store refuses.
async fn remove_one(
    repository: Repository,
    path: String,
    cancel: CancellationToken,
) -> Result<(String, Option<String>)> {
    if cancel.is_cancelled() {
        return Err(RepositoryError::Cancelled);
    }
    match repository.store().delete(&path).await {
        Ok(()) => Ok((path, None)),
        // Stores have many words for what is locked or not allowed: what is still there was kept.
        Err(error) => match repository.store().head(&path).await {
            Ok(_) => Ok((path, Some(error.to_string()))),
            Err(RepositoryError::NotFound { .. }) => Ok((path, None)),
            Err(_) => Err(error),
        },
    }
}

/// How many steps a removal has.
const STEPS: u8 = 4;

/// In which step an object goes.
pub(crate) fn step_of(path: &str) -> u8 {
    let manifests = in_folder(path, SNAPSHOTS_PREFIX);
    if manifests && !path.ends_with(FILES_SUFFIX) {
        0
    } else if manifests {
        1
    } else if in_folder(path, INDEX_PREFIX) {
        2
    } else {
        3
    }
}

#[cfg(test)]
mod tests {
    use super::step_of;

    #[test]
    fn what_names_others_goes_first() {
        let steps = ["snapshots/c/1", "snapshots/c/1.files", "index/1", "packs/ab/abc", "wal/7/1"];
        assert_eq!(steps.map(step_of), [0, 1, 2, 3, 3]);
    }
}
