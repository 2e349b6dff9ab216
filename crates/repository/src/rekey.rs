//! Carrying what a repository holds into one that has other keys.
//!
//! Every name, key and signature of a repository comes from its one key. So a repository whose key somebody else
//! knows is not changed: what it holds is read with the old key, and written to another repository with a new one.
//! The order is a backup's: extents, index, list of files, and only then whatever names it.

use std::collections::HashMap;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::container::Header;
use crate::container::Suite;
use crate::container::read::split;
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::fetch::ExtentReader;
use crate::file_lookup::FileLookup;
use crate::file_table::{EntryKind, FileEntry, FileTableRef};
use crate::ingest::{Ingest, IngestStats};
use crate::object::PutKind;
use crate::repository::Repository;

/// Extents that are read together: 8 MiB, with extents of the default size.
const EXTENTS_AT_ONCE: usize = 128;
/// Entries that wait for the content of their extents.
const ENTRIES_AT_ONCE: usize = 1024;
/// The same of extents that they have: 2 MiB, beside the largest entry.
const NAMES_AT_ONCE: usize = 65_536;

/// A way from one repository to another.
#[derive(Debug)]
pub struct Rekey {
    from: Repository,
    to: Repository,
}

/// A list of files that has been carried, and what has become of it: what is the same at the same place of the next
/// one need not be read again.
#[derive(Clone, Copy, Debug)]
pub struct CarriedFiles<'a> {
    /// In the old repository.
    pub old: &'a FileTableRef,
    /// In the new one.
    pub new: &'a FileTableRef,
}

impl Rekey {
    /// From one that may be read into one that may be written, with extents of the same size.
    ///
    /// # Errors
    /// [`RepositoryError::KeyRequired`] where one of them may not be read; [`RepositoryError::InvalidArgument`] when
    /// they are the same, or their extents differ in size.
    pub fn new(from: Repository, to: Repository) -> Result<Self> {
        from.must_read("carrying what it holds elsewhere")?;
        to.owner("carrying something into it")?;
        if from.id() == to.id() || from.extent_size() != to.extent_size() {
            return Err(RepositoryError::InvalidArgument {
                what: "carrying goes to another repository, with extents of the same size"
                    .to_owned(),
            });
        }
        Ok(Self { from, to })
    }

    /// Carries an object that names no other by its hash: with its metadata and its content, under its own path. One
    /// that is there already stays. Gives its bytes in the old repository.
    ///
    /// # Errors
    /// What the stores say; [`RepositoryError::Corrupt`] and [`RepositoryError::UntrustedWriter`] of the old one.
    pub async fn object(&self, path: &str) -> Result<u64> {
        let bytes = self.from.store().get(path).await?;
        let kind = Header::parse(path, split(path, &bytes)?.header)?.kind;
        let (bytes, opened) = self.from.opened(path, kind, bytes).await?;
        let size = bytes.len() as u64;
        let suite = opened.header.suite;
        let content = match suite {
            Suite::Empty => Vec::new(),
            Suite::Sealed | Suite::Shared => {
                vec![self.from.content_of(path, &opened, bytes).await?]
            }
        };
        let body = &opened.metadata.body;
        match self.to.put_container(path, kind, suite, content, body, PutKind::CreateOnly).await {
            Ok(_) | Err(RepositoryError::AlreadyExists { .. }) => Ok(size),
            Err(error) => Err(error),
        }
    }

    /// Carries a list of files with everything that it names, under its own path. What an interrupted attempt has
    /// left there is replaced: nothing names it yet. `read` hears of the bytes of extents as they are read.
    ///
    /// # Errors
    /// As [`Rekey::object`]; [`RepositoryError::Cancelled`].
    pub async fn files(
        &self,
        table: &FileTableRef,
        before: Option<CarriedFiles<'_>>,
        read: &(dyn Fn(u64) + Sync),
        cancel: &CancellationToken,
    ) -> Result<(FileTableRef, IngestStats)> {
        let before = match before {
            Some(carried) => Some(Before::of(&self.from, &self.to, carried).await?),
            None => None,
        };
        let mut reader = self.from.read_file_table(table).await?;
        let ingest = self.to.begin_ingest().await?;
        let mut written = ingest.begin_file_table().await?;
        let mut batch = Batch {
            extents: self.from.extent_reader().await?,
            ingest: &ingest,
            before,
            read,
            entries: Vec::new(),
            names: 0,
            wanted: Vec::new(),
        };
        while let Some(entry) = reader.next().await? {
            if cancel.is_cancelled() {
                return Err(RepositoryError::Cancelled);
            }
            batch.take(entry).await?;
            batch.names += batch.entries.last().map_or(0, |entry| entry.extents.len());
            if batch.entries.len() >= ENTRIES_AT_ONCE || batch.names >= NAMES_AT_ONCE {
                batch.names = 0;
                for entry in batch.finished().await? {
                    written.add(&entry).await?;
                }
            }
        }
        for entry in batch.finished().await? {
            written.add(&entry).await?;
        }
        drop(batch);
        let stats = ingest.flush().await?;
        match self.to.delete(&table.path).await {
            Ok(()) | Err(RepositoryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok((written.finish(&table.path).await?, stats))
    }
}

/// The files of the list that was carried before.
struct Before {
    old: FileLookup,
    new: FileLookup,
}

impl Before {
    async fn of(from: &Repository, to: &Repository, carried: CarriedFiles<'_>) -> Result<Self> {
        let has_content =
            |entry: &FileEntry| entry.kind == EntryKind::File && !entry.extents.is_empty();
        Ok(Self {
            old: from.look_up_files(carried.old, has_content).await?,
            new: to.look_up_files(carried.new, has_content).await?,
        })
    }

    /// The extents of this file then, by their names in both repositories.
    async fn of_file(&mut self, path: &str) -> Result<Vec<(ExtentId, ExtentId)>> {
        let (Some(old), Some(new)) = (self.old.get(path).await?, self.new.get(path).await?) else {
            return Ok(Vec::new());
        };
        if old.extents.len() != new.extents.len() {
            return Ok(Vec::new());
        }
        Ok(old.extents.into_iter().zip(new.extents).collect())
    }
}

/// Entries whose extents are being renamed.
struct Batch<'a> {
    extents: ExtentReader,
    ingest: &'a Ingest,
    before: Option<Before>,
    read: &'a (dyn Fn(u64) + Sync),
    entries: Vec<FileEntry>,
    /// Extents that they have.
    names: usize,
    /// Extents whose content is needed, each with its entry and its place there.
    wanted: Vec<(usize, usize, ExtentId)>,
}

impl Batch<'_> {
    async fn take(&mut self, mut entry: FileEntry) -> Result<()> {
        let known = match &mut self.before {
            Some(before) if !entry.extents.is_empty() => before.of_file(&entry.path).await?,
            _ => Vec::new(),
        };
        let number = self.entries.len();
        let old = std::mem::take(&mut entry.extents);
        entry.extents = vec![ExtentId::ZERO; old.len()];
        let last = old.len().saturating_sub(1);
        let extent_size = entry.size.div_ceil(old.len().max(1) as u64);
        self.entries.push(entry);
        for (place, id) in old.into_iter().enumerate() {
            if id.is_zero() {
                continue;
            }
            let same = known.get(place).filter(|(old, _)| *old == id).map(|(_, new)| *new);
            // All but a file's last extent are of the same length; of that one it does not matter here.
            let length = if place == last { 0 } else { extent_size };
            match same {
                Some(new) if self.ingest.share_extent(&new, length).is_ok() => {
                    self.renamed(number, place, new);
                }
                _ => {
                    self.wanted.push((number, place, id));
                    if self.wanted.len() >= EXTENTS_AT_ONCE {
                        self.resolve().await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn renamed(&mut self, entry: usize, place: usize, new: ExtentId) {
        if let Some(id) = self.entries.get_mut(entry).and_then(|e| e.extents.get_mut(place)) {
            *id = new;
        }
    }

    /// Reads what is wanted, and gives it to the new repository.
    async fn resolve(&mut self) -> Result<()> {
        let wanted = std::mem::take(&mut self.wanted);
        let mut ids: Vec<ExtentId> = wanted.iter().map(|(_, _, id)| *id).collect();
        ids.sort_unstable();
        ids.dedup();
        let contents: Vec<Bytes> = self.extents.read(&ids).await?;
        let mut names = HashMap::with_capacity(ids.len());
        for (old, bytes) in ids.into_iter().zip(contents) {
            (self.read)(bytes.len() as u64);
            names.insert(old, self.ingest.add_extent(bytes).await?);
        }
        for (entry, place, old) in wanted {
            if let Some(new) = names.get(&old) {
                self.renamed(entry, place, *new);
            }
        }
        Ok(())
    }

    /// The entries, all of whose extents have their new names.
    async fn finished(&mut self) -> Result<Vec<FileEntry>> {
        self.resolve().await?;
        Ok(std::mem::take(&mut self.entries))
    }
}
