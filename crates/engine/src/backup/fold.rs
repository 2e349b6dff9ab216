//! An incremental file on its way into a whole one (`reconstruct.c`).
//!
//! The whole file is the previous snapshot's with the new blocks in it. An extent that no new block
//! lies in is the previous snapshot's, by its name; of the others what was there before is read, and
//! only there. A few megabytes of them are in memory at once.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use holdfast_postgres::{IncrementalError, IncrementalEvent, IncrementalHeader, IncrementalReader};
use holdfast_repository::{ExtentId, ExtentReader, FileEntry, Ingest};
use tokio::runtime::Handle;

use crate::error::{EngineError, Result};

/// Extents that are put together are in memory up to this much.
const WINDOW_BYTES: usize = 4 * 1024 * 1024;

/// An extent that is being put together.
struct Building {
    number: usize,
    bytes: BytesMut,
    /// Bytes of it that new blocks have filled, in order.
    filled: Vec<Range<usize>>,
}

/// A whole file, as far as its content is concerned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) size: u64,
    pub(super) extents: Vec<ExtentId>,
    pub(super) sums: Vec<u32>,
}

/// One incremental file and the file that it is to be folded into.
pub(super) struct Fold {
    reader: IncrementalReader,
    state: FoldState,
}

struct FoldState {
    path: String,
    extent_size: usize,
    block_size: usize,
    previous: FileEntry,
    size: u64,
    /// Bytes of the previous file that still count: what follows is zeros unless a block brings it.
    counting: u64,
    extents: Vec<ExtentId>,
    sums: Vec<u32>,
    /// The first extent that nothing was decided about.
    next: usize,
    window: Vec<Building>,
}

/// Where a fold reads and writes.
pub(super) struct FoldPlaces<'a> {
    pub(super) ingest: &'a Ingest,
    pub(super) extents: &'a ExtentReader,
    pub(super) runtime: &'a Handle,
}

/// Errors of the file and of what is done with it.
enum FoldError {
    File(IncrementalError),
    Engine(EngineError),
}

impl From<IncrementalError> for FoldError {
    fn from(error: IncrementalError) -> Self {
        Self::File(error)
    }
}

impl From<EngineError> for FoldError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl Fold {
    /// Begins with the file `path` (the whole one's) and what the previous snapshot has of it.
    pub(super) fn begin(
        path: &str,
        previous: FileEntry,
        extent_size: usize,
        block_size: u32,
        segment_blocks: u32,
    ) -> Result<Self> {
        let extents = previous.size.div_ceil(extent_size as u64);
        let several = previous.extents.len() > 1;
        if previous.extents.len() as u64 != extents
            || (several && previous.extent_crc32c.len() != previous.extents.len())
            || (!several && previous.crc32c.is_none())
        {
            return Err(EngineError::integrity(
                "previous_snapshot_damaged",
                format!("the previous snapshot's entry of {path} does not say what is in it"),
                "Nothing of this backup was kept. Take a full one: holdfast backup NAME --incremental never",
            ));
        }
        let reader =
            IncrementalReader::new(block_size, segment_blocks).map_err(|e| damaged(path, &e))?;
        Ok(Self {
            reader,
            state: FoldState {
                path: path.to_owned(),
                extent_size,
                block_size: block_size as usize,
                previous,
                size: 0,
                counting: 0,
                extents: Vec::new(),
                sums: Vec::new(),
                next: 0,
                window: Vec::new(),
            },
        })
    }

    /// Takes the next bytes of the incremental file. `page` sees every new block.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        places: &FoldPlaces<'_>,
        page: &mut impl FnMut(u32, &[u8]),
    ) -> Result<()> {
        let state = &mut self.state;
        let outcome = self.reader.push::<FoldError>(bytes, &mut |event| {
            match event {
                IncrementalEvent::Header(header) => state.measure(header),
                IncrementalEvent::Block { number, page: bytes } => {
                    page(number, bytes);
                    state.block(number, bytes, places)?;
                }
            }
            Ok(())
        });
        outcome.map_err(|error| match error {
            FoldError::Engine(error) => error,
            FoldError::File(error) => damaged(&self.state.path, &error),
        })
    }

    /// The whole file, when the incremental one has ended.
    pub(super) fn finish(mut self, places: &FoldPlaces<'_>) -> Result<Folded> {
        self.reader.finish().map_err(|e| damaged(&self.state.path, &e))?;
        self.state.decide_before(self.state.extents.len(), places)?;
        self.state.store_window(places)?;
        let FoldState { size, extents, sums, .. } = self.state;
        Ok(Folded { size, extents, sums })
    }
}

impl FoldState {
    fn measure(&mut self, header: &IncrementalHeader) {
        let block = self.block_size as u64;
        self.size = u64::from(header.length_in_blocks()) * block;
        // A last block that is not whole does not count.
        let whole = self.previous.size / block * block;
        self.counting = whole.min(u64::from(header.truncation_block_length) * block);
        // At most a segment's: some megabytes even of a server with very large ones.
        let count =
            usize::try_from(self.size.div_ceil(self.extent_size as u64)).unwrap_or(usize::MAX);
        self.extents = vec![ExtentId::ZERO; count];
        self.sums = vec![0; count];
    }

    fn block(&mut self, number: u32, page: &[u8], places: &FoldPlaces<'_>) -> Result<()> {
        let mut from = u64::from(number) * self.block_size as u64;
        let mut rest = page;
        while !rest.is_empty() {
            let extent = usize::try_from(from / self.extent_size as u64).unwrap_or(usize::MAX);
            let within = usize::try_from(from % self.extent_size as u64).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(rest.len().min(self.extent_size - within));
            self.decide_before(extent, places)?;
            if self.window.last().is_none_or(|last| last.number != extent) {
                self.build(extent, places)?;
            }
            if let Some(building) = self.window.last_mut() {
                building.bytes[within..within + now.len()].copy_from_slice(now);
                building.filled.push(within..within + now.len());
            }
            from += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Where extent `number` of the new file lies in it.
    fn span(&self, number: usize) -> Range<u64> {
        let start = number as u64 * self.extent_size as u64;
        start..(start + self.extent_size as u64).min(self.size)
    }

    /// Decides about the extents up to `end` that no new block lies in.
    fn decide_before(&mut self, end: usize, places: &FoldPlaces<'_>) -> Result<()> {
        while self.next < end {
            let number = self.next;
            let span = self.span(number);
            let before = (span.start + self.extent_size as u64).min(self.previous.size);
            if span.end <= self.counting && before == span.end {
                let id = self.previous.extents[number];
                places.ingest.share_extent(&id, span.end - span.start)?;
                self.extents[number] = id;
                self.sums[number] = match self.previous.extent_crc32c.get(number) {
                    Some(sum) => *sum,
                    // The only extent: the file's own.
                    None => self.previous.crc32c.unwrap_or_default(),
                };
                self.next += 1;
            } else {
                // Cut off, or longer than it was: its end is zeros.
                self.build(number, places)?;
            }
        }
        Ok(())
    }

    fn build(&mut self, number: usize, places: &FoldPlaces<'_>) -> Result<()> {
        if (self.window.len() + 1) * self.extent_size > WINDOW_BYTES {
            self.store_window(places)?;
        }
        let span = self.span(number);
        let length = usize::try_from(span.end.saturating_sub(span.start)).unwrap_or_default();
        self.window.push(Building { number, bytes: BytesMut::zeroed(length), filled: Vec::new() });
        self.next = number + 1;
        Ok(())
    }

    /// Fills in what the previous file has, and stores the extents.
    fn store_window(&mut self, places: &FoldPlaces<'_>) -> Result<()> {
        let window = std::mem::take(&mut self.window);
        let mut wanted = Vec::new();
        let mut gaps = Vec::new();
        for building in &window {
            let start = building.number as u64 * self.extent_size as u64;
            let counting = usize::try_from(self.counting.saturating_sub(start))
                .unwrap_or(usize::MAX)
                .min(building.bytes.len());
            let open = open_parts(&building.filled, counting);
            let id = self.previous.extents.get(building.number).filter(|id| !id.is_zero());
            match id {
                Some(id) if !open.is_empty() => {
                    wanted.push(*id);
                    gaps.push(open);
                }
                _ => gaps.push(Vec::new()),
            }
        }
        let mut read = places.runtime.block_on(places.extents.read(&wanted))?.into_iter();
        for (mut building, open) in window.into_iter().zip(gaps) {
            if !open.is_empty() {
                let old = read.next().unwrap_or_default();
                for part in open {
                    let from = old.get(part.clone()).ok_or_else(|| {
                        EngineError::integrity(
                            "previous_snapshot_damaged",
                            format!("the previous snapshot's extents of {} are too short", self.path),
                            "Nothing of this backup was kept. Take a full one: holdfast backup NAME --incremental never",
                        )
                    })?;
                    building.bytes[part].copy_from_slice(from);
                }
            }
            let bytes: Bytes = building.bytes.freeze();
            self.sums[building.number] = crc32c::crc32c(&bytes);
            self.extents[building.number] =
                places.runtime.block_on(places.ingest.add_extent(bytes))?;
        }
        Ok(())
    }
}

/// The parts below `end` that `filled`, which is in order, leaves open.
fn open_parts(filled: &[Range<usize>], end: usize) -> Vec<Range<usize>> {
    let mut open = Vec::new();
    let mut at = 0;
    for part in filled {
        if part.start.min(end) > at {
            open.push(at..part.start.min(end));
        }
        at = at.max(part.end);
    }
    if at < end {
        open.push(at..end);
    }
    open
}

fn damaged(path: &str, error: &IncrementalError) -> EngineError {
    EngineError::integrity(
        "incremental_file_damaged",
        format!("the incremental file of {path} cannot be read: {error}"),
        "Nothing of this backup was kept. Run it again; if it goes on, report it with the server's version.",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of ranges")]
    use super::*;

    #[test]
    fn what_new_blocks_leave_open() {
        assert_eq!(open_parts(&[], 10), [0..10]);
        assert_eq!(open_parts(&[0..4, 4..8], 8), []);
        assert_eq!(open_parts(&[2..4, 6..8], 10), [0..2, 4..6, 8..10]);
        assert_eq!(open_parts(&[6..8], 4), [0..4]);
        assert_eq!(open_parts(&[0..2], 0), []);
    }
}
