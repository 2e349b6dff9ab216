//! What a snapshot is made of: its packs, and single files of it in memory.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use holdfast_repository::{
    EntryKind, ExtentId, ExtentSink, FileEntry, PackId, Repository, SinkError, WantedExtent,
};
use tokio_util::sync::CancellationToken;

use super::Snapshot;
use crate::error::{EngineError, Result};

/// Packs read at a time.
const PARALLEL: usize = 4;

/// The packs that hold a snapshot's extents.
#[derive(Debug, Default)]
pub(crate) struct Packs {
    pub(crate) found: HashSet<PackId>,
    /// The first file with an extent that no pack holds.
    pub(crate) lost: Option<String>,
}

/// Finds the packs of a snapshot.
///
/// # Errors
/// When the index or the list of files cannot be read.
pub(crate) async fn packs_of(repository: &Repository, snapshot: &Snapshot) -> Result<Packs> {
    let index = repository.index().await?;
    let mut reader = repository.read_file_table(&snapshot.file_table).await?;
    let mut packs = Packs::default();
    while let Some(entry) = reader.next().await? {
        for id in entry.extents.iter().filter(|id| !id.is_zero()) {
            match index.packs_of(id) {
                Some(carriers) => packs.found.extend(carriers),
                None => {
                    packs.lost.get_or_insert_with(|| entry.path.clone());
                }
            }
        }
    }
    Ok(packs)
}

/// The contents of the files of a snapshot that are wanted, by their paths; none when they are larger than
/// `limit` bytes together.
///
/// # Errors
/// When the list of files or what it names cannot be read.
pub(crate) async fn read_files(
    repository: &Repository,
    snapshot: &Snapshot,
    cancel: &CancellationToken,
    limit: u64,
    wanted: impl Fn(&FileEntry) -> bool,
) -> Result<Option<Vec<(String, Vec<u8>)>>> {
    let mut reader = repository.read_file_table(&snapshot.file_table).await?;
    let mut files = Vec::new();
    let mut extents = Vec::new();
    let mut total = 0u64;
    while let Some(entry) = reader.next().await? {
        if entry.kind != EntryKind::File || !wanted(&entry) {
            continue;
        }
        total = total.saturating_add(entry.size);
        if total > limit {
            return Ok(None);
        }
        let number = files.len() as u64;
        for (n, id) in (0u64..).zip(&entry.extents) {
            if *id != ExtentId::ZERO {
                extents.push(WantedExtent { id: *id, token: number << 32 | n });
            }
        }
        files.push((entry.path, vec![0; usize::try_from(entry.size).unwrap_or(0)]));
    }
    let sink = Arc::new(Memory { extent: repository.extent_size(), files: Mutex::new(files) });
    repository.fetch_extents(extents, PARALLEL, sink.clone(), cancel).await?;
    let mut files = sink.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Some(std::mem::take(&mut *files)))
}

/// Files in memory, by number.
struct Memory {
    extent: usize,
    files: Mutex<Vec<(String, Vec<u8>)>>,
}

/// Where an extent of `length` bytes goes.
fn place(
    files: &mut [(String, Vec<u8>)],
    extent: usize,
    token: u64,
    length: usize,
) -> Option<&mut [u8]> {
    let file = usize::try_from(token >> 32).ok()?;
    let start = usize::try_from(token & 0xFFFF_FFFF).ok()?.checked_mul(extent)?;
    files.get_mut(file)?.1.get_mut(start..start.checked_add(length)?)
}

impl ExtentSink for Memory {
    fn write(
        &self,
        token: u64,
        _id: &ExtentId,
        bytes: &[u8],
    ) -> std::result::Result<(), SinkError> {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(place) = place(&mut files, self.extent, token, bytes.len()) else {
            let error = EngineError::integrity(
                "file_table_damaged",
                "an extent lies outside its file",
                "This snapshot cannot be read from this copy of the repository. Choose another snapshot.",
            );
            return Err(SinkError(Box::new(error)));
        };
        place.copy_from_slice(bytes);
        Ok(())
    }
}
