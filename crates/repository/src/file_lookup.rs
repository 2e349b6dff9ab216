//! Single entries of a file table, in any order.
//!
//! The table is read once from start to end, which checks all of it; after that an entry is found by
//! its path with a ranged read of the frames that its line is in. Memory is some 40 bytes for each file
//! and a few frames.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::container::FrameEntry;
use crate::container::read::ContentReader;
use crate::error::{RepositoryError, Result};
use crate::file_table::{FileEntry, FileTableRef};
use crate::repository::Repository;

/// Decrypted frames that are kept: a megabyte each. Entries are asked for in much the same order as
/// they were written in.
const FRAMES_KEPT: usize = 4;

/// Where a line is in the content.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    length: u32,
}

/// Finds entries of one file table.
pub struct FileLookup {
    repository: Repository,
    path: String,
    content: Arc<ContentReader>,
    /// Where each frame's raw bytes begin in the content.
    starts: Vec<u64>,
    places: HashMap<[u8; 16], Place>,
    kept: VecDeque<(usize, Arc<Vec<u8>>)>,
}

impl std::fmt::Debug for FileLookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileLookup({}, {} entries)", self.path, self.places.len())
    }
}

fn key(path: &str) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(path.as_bytes()).as_bytes()[..16]);
    key
}

impl Repository {
    /// Reads a whole file table and keeps where the entries are for which `keep` says so.
    ///
    /// # Errors
    /// As [`FileTableReader::next`](crate::FileTableReader::next).
    pub async fn look_up_files(
        &self,
        reference: &FileTableRef,
        mut keep: impl FnMut(&FileEntry) -> bool,
    ) -> Result<FileLookup> {
        let mut reader = self.read_file_table(reference).await?;
        let mut places = HashMap::new();
        while let Some((entry, Range { start, end })) = reader.next_placed().await? {
            if keep(&entry) {
                // Lines have a limit far below four gigabytes.
                let length = u32::try_from(end - start).unwrap_or(u32::MAX);
                places.insert(key(&entry.path), Place { start, length });
            }
        }
        let content = reader.content();
        let mut at = 0;
        let starts = content
            .frames()
            .iter()
            .map(|frame| {
                let start = at;
                at += frame.raw();
                start
            })
            .collect();
        Ok(FileLookup {
            repository: self.clone(),
            path: reference.path.clone(),
            content,
            starts,
            places,
            kept: VecDeque::new(),
        })
    }
}

impl FileLookup {
    /// The entry of this path.
    ///
    /// # Errors
    /// When the table has changed since it was read, and what the store says.
    pub async fn get(&mut self, path: &str) -> Result<Option<FileEntry>> {
        let Some(Place { start, length }) = self.places.get(&key(path)).copied() else {
            return Ok(None);
        };
        let mut line = Vec::with_capacity(length as usize);
        let end = start + u64::from(length);
        let first = self.starts.partition_point(|at| *at <= start).saturating_sub(1);
        let last = self.starts.partition_point(|at| *at < end);
        for number in first..last {
            let frame = self.frame(number).await?;
            let at = self.starts.get(number).copied().unwrap_or_default();
            let within = |position: u64| {
                usize::try_from(position.saturating_sub(at))
                    .map_or(frame.len(), |n| n.min(frame.len()))
            };
            line.extend_from_slice(&frame[within(start)..within(end)]);
        }
        let entry: FileEntry = serde_json::from_slice(&line)
            .map_err(|source| RepositoryError::Document { path: self.path.clone(), source })?;
        Ok(Some(entry).filter(|entry| entry.path == path))
    }

    async fn frame(&mut self, number: usize) -> Result<Arc<Vec<u8>>> {
        if let Some((_, frame)) = self.kept.iter().find(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(frame));
        }
        let entry: FrameEntry = *self.content.frames().get(number).ok_or_else(|| {
            RepositoryError::corrupt(&self.path, format!("frame {number} is not there"))
        })?;
        let bytes =
            self.repository.store().get_range(&self.path, entry.offset(), entry.stored()).await?;
        let content = Arc::clone(&self.content);
        let repository = self.repository.clone();
        let raw = tokio::task::spawn_blocking(move || {
            let stored = content.slice(number, &bytes, entry.offset())?;
            content.frame(&repository.inner.codec, number, stored)
        })
        .await
        .map_err(RepositoryError::worker)??;
        let raw = Arc::new(raw);
        if self.kept.len() == FRAMES_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((number, Arc::clone(&raw)));
        Ok(raw)
    }
}
