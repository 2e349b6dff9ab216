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

/// Extents that are put together are in memory up to this much; what they were, and what that was made from, is beside
/// them.
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
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) extents: Vec<ExtentId>,
    /// CRC-32C of each extent.
    pub(super) sums: Vec<u32>,
}

/// One incremental file and the file that it is to be folded into.
pub(super) struct Fold {
    reader: IncrementalReader,
    state: FoldState,
}

struct FoldState {
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
    /// Begins with what the previous snapshot has of the file. Sizes are in bytes.
    pub(super) fn begin(
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
            return Err(previous_damaged(&previous.path, "entry does not say what is in it"));
        }
        let reader = IncrementalReader::new(block_size, segment_blocks)
            .map_err(|e| damaged(&previous.path, &e))?;
        Ok(Self {
            reader,
            state: FoldState {
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

    /// The whole file's path.
    pub(super) fn path(&self) -> &str {
        &self.state.previous.path
    }

    /// Takes the next bytes of the incremental file. `page` sees every new block: the whole file's path,
    /// the block's number in it, its bytes.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        places: &FoldPlaces<'_>,
        page: &mut impl FnMut(&str, u32, &[u8]),
    ) -> Result<()> {
        let state = &mut self.state;
        let outcome = self.reader.push::<FoldError>(bytes, &mut |event| {
            match event {
                IncrementalEvent::Header(header) => state.measure(header),
                IncrementalEvent::Block { number, page: bytes } => {
                    page(&state.previous.path, number, bytes);
                    state.block(number, bytes, places)?;
                }
            }
            Ok(())
        });
        outcome.map_err(|error| match error {
            FoldError::Engine(error) => error,
            FoldError::File(error) => damaged(self.path(), &error),
        })
    }

    /// The whole file, when the incremental one has ended.
    pub(super) fn finish(mut self, places: &FoldPlaces<'_>) -> Result<Folded> {
        self.reader.finish().map_err(|e| damaged(&self.state.previous.path, &e))?;
        self.state.decide_before(self.state.extents.len(), places)?;
        self.state.store_window(places)?;
        let FoldState { previous: FileEntry { path, .. }, size, extents, sums, .. } = self.state;
        Ok(Folded { path, size, extents, sums })
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
        let mut read = places.runtime.block_on(places.extents.read_old(&wanted))?.into_iter();
        for (mut building, open) in window.into_iter().zip(gaps) {
            let old = if open.is_empty() { None } else { read.next() };
            for part in open {
                let from = old.as_ref().and_then(|old| old.bytes().get(part.clone()));
                let from = from.ok_or_else(|| {
                    previous_damaged(&self.previous.path, "extents are shorter than it says")
                })?;
                building.bytes[part].copy_from_slice(from);
            }
            let bytes: Bytes = building.bytes.freeze();
            self.sums[building.number] = crc32c::crc32c(&bytes);
            // Most of it is what was read: then only the new blocks are stored.
            self.extents[building.number] = places.runtime.block_on(async {
                match old {
                    Some(old) => places.ingest.add_changed_extent(bytes, old).await,
                    None => places.ingest.add_extent(bytes).await,
                }
            })?;
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

fn previous_damaged(path: &str, how: &str) -> EngineError {
    EngineError::integrity(
        "previous_snapshot_damaged",
        format!("{path} of the previous snapshot cannot be built on: its {how}"),
        "Nothing of this backup was kept. Take a full one: holdfast backup NAME --incremental never",
    )
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
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::single_range_in_vec_init, reason = "lists of ranges")]
    use std::collections::BTreeSet;
    use std::path::Path;

    use holdfast_postgres::INCREMENTAL_MAGIC;
    use holdfast_repository::{
        CreateOptions, DeviceId, EntryKind, NewSlot, Repository, RepositoryUrl, Store,
    };
    use proptest::prelude::*;
    use proptest::sample::Index;
    use tokio::runtime::Runtime;

    use super::super::checksum::ChecksumJoiner;
    use super::*;

    #[test]
    fn what_new_blocks_leave_open() {
        assert_eq!(open_parts(&[], 10), [0..10]);
        assert_eq!(open_parts(&[0..4, 4..8], 8), []);
        assert_eq!(open_parts(&[2..4, 6..8], 10), [0..2, 4..6, 8..10]);
        assert_eq!(open_parts(&[6..8], 4), [0..4]);
        assert_eq!(open_parts(&[0..2], 0), []);
    }

    /// One segment of a relation: what there was, and what the server sends.
    #[derive(Clone, Debug)]
    struct Segment {
        previous: Vec<u8>,
        blocks: BTreeSet<u32>,
        /// As in the file's header: servers have written more than a segment's.
        truncation: u32,
        cuts: Vec<Index>,
    }

    /// A relation of some segments on a server built like this.
    #[derive(Clone, Debug)]
    struct Relation {
        block_size: u32,
        segment_blocks: u32,
        segments: Vec<Segment>,
    }

    /// Content that tells every place from every other.
    fn content(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn page(number: u32, block_size: u32) -> Vec<u8> {
        match number % 5 {
            // Servers send pages of zeros too.
            4 => vec![0; block_size as usize],
            _ => content(u64::from(number) << 32, block_size as usize),
        }
    }

    fn segment(block_size: u32, segment_blocks: u32) -> impl Strategy<Value = Segment> {
        let most = (segment_blocks * block_size) as usize;
        let whole = (0..=segment_blocks).prop_map(move |n| (n * block_size) as usize);
        let previous = (prop_oneof![3 => whole, 1 => 0..=most], any::<u64>(), 0..=most, 0..=most)
            .prop_map(|(length, seed, one, other)| {
                let mut bytes = content(seed, length);
                // A stretch of zeros, as relations have them.
                let zeros = one.min(other).min(length)..one.max(other).min(length);
                if seed % 2 == 0 {
                    bytes[zeros].fill(0);
                }
                bytes
            });
        let truncation = prop_oneof![4 => 0..=segment_blocks, 1 => 0..=3 * segment_blocks];
        let count = prop_oneof![Just(0), 0..=segment_blocks as usize];
        (
            previous,
            count.prop_flat_map(move |n| proptest::collection::btree_set(0..segment_blocks, 0..=n)),
            truncation,
            proptest::collection::vec(any::<Index>(), 0..4),
        )
            .prop_map(|(previous, blocks, truncation, cuts)| Segment {
                previous,
                blocks,
                truncation,
                cuts,
            })
    }

    fn relation() -> impl Strategy<Value = Relation> {
        let sizes = prop_oneof![Just(1024_u32), Just(4096), Just(8192), Just(32_768)];
        (sizes, 1_u32..30).prop_flat_map(|(block_size, segment_blocks)| {
            proptest::collection::vec(segment(block_size, segment_blocks), 1..=3)
                .prop_map(move |segments| Relation { block_size, segment_blocks, segments })
        })
    }

    /// The incremental file as `sendFile` writes it (`basebackup.c`).
    fn sent(segment: &Segment, block_size: u32) -> Vec<u8> {
        let count = u32::try_from(segment.blocks.len()).unwrap();
        let mut file: Vec<u8> = [INCREMENTAL_MAGIC, count, segment.truncation]
            .iter()
            .chain(&segment.blocks)
            .flat_map(|number| number.to_le_bytes())
            .collect();
        if count > 0 {
            file.resize(file.len().next_multiple_of(block_size as usize), 0);
        }
        file.extend(segment.blocks.iter().flat_map(|number| page(*number, block_size)));
        file
    }

    /// The whole file, block by block as `reconstruct_from_incremental_file` finds them.
    fn whole(segment: &Segment, block_size: u32, segment_blocks: u32) -> Vec<u8> {
        let truncation = segment.truncation.min(segment_blocks);
        let length = segment.blocks.last().map_or(0, |last| last + 1).max(truncation);
        let block = block_size as usize;
        let older: Vec<&[u8]> = segment.previous.chunks_exact(block).collect();
        (0..length)
            .flat_map(|number| match older.get(number as usize) {
                _ if segment.blocks.contains(&number) => page(number, block_size),
                Some(older) if number < truncation => older.to_vec(),
                _ => vec![0; block],
            })
            .collect()
    }

    async fn repository(folder: &Path, extent_size: u32) -> Repository {
        let url = RepositoryUrl::parse(folder.to_str().unwrap()).unwrap();
        let store = Store::open(&url).await.unwrap();
        let slots = [NewSlot::Keychain(&[7; 32])];
        let options = CreateOptions::default().with_extent_size(extent_size);
        Repository::create(store, DeviceId::generate(), &slots, options).await.unwrap()
    }

    /// A file as the previous backup has kept it.
    async fn kept(ingest: &Ingest, path: &str, bytes: &[u8]) -> FileEntry {
        let mut extents = Vec::new();
        let mut sums = Vec::new();
        for part in bytes.chunks(ingest.extent_size()) {
            extents.push(ingest.add_extent(Bytes::copy_from_slice(part)).await.unwrap());
            sums.push(crc32c::crc32c(part));
        }
        if sums.len() == 1 {
            sums.clear();
        }
        FileEntry {
            path: path.to_owned(),
            size: bytes.len() as u64,
            mode: 0o600,
            mtime: 0,
            crc32c: Some(crc32c::crc32c(bytes)),
            kind: EntryKind::File,
            extents,
            extent_crc32c: sums,
        }
    }

    /// Folds every segment, and compares each with the file that the rules make of it.
    fn check(repository: &Repository, runtime: &Runtime, relation: &Relation) {
        let Relation { block_size, segment_blocks, segments } = relation;
        let extent_size = repository.extent_size();
        let files: Vec<FileEntry> = runtime.block_on(async {
            let ingest = repository.begin_ingest().await.unwrap();
            let mut files = Vec::new();
            for (number, segment) in segments.iter().enumerate() {
                let path = format!("base/5/16384.{number}");
                files.push(kept(&ingest, &path, &segment.previous).await);
            }
            ingest.flush().await.unwrap();
            files
        });
        let (ingest, extents) = runtime.block_on(async {
            let extents = repository.extent_reader().await.unwrap();
            (repository.begin_ingest().await.unwrap(), extents)
        });
        let places = FoldPlaces { ingest: &ingest, extents: &extents, runtime: runtime.handle() };
        let joiner = ChecksumJoiner::new(extent_size);
        for (segment, previous) in segments.iter().zip(files) {
            let mut fold =
                Fold::begin(previous, extent_size, *block_size, *segment_blocks).unwrap();
            let sent = sent(segment, *block_size);
            let mut ends: Vec<usize> =
                segment.cuts.iter().map(|cut| cut.index(sent.len())).collect();
            ends.extend([0, sent.len()]);
            ends.sort_unstable();
            let mut pages = Vec::new();
            for ends in ends.windows(2) {
                fold.push(&sent[ends[0]..ends[1]], &places, &mut |_, number, page| {
                    pages.push((number, page.to_vec()));
                })
                .unwrap();
            }
            let folded = fold.finish(&places).unwrap();
            let expected = whole(segment, *block_size, *segment_blocks);
            let named: Vec<_> =
                expected.chunks(extent_size).map(|part| repository.extent_id(part)).collect();
            assert_eq!(folded.size, expected.len() as u64);
            assert_eq!(folded.extents, named);
            assert_eq!(joiner.join(&folded.sums, folded.size), crc32c::crc32c(&expected));
            let seen: Vec<_> =
                segment.blocks.iter().map(|number| (*number, page(*number, *block_size))).collect();
            assert!(pages == seen, "pages are looked at once, in order");
        }
        runtime.block_on(ingest.flush()).unwrap();
    }

    #[test]
    fn folded_files_are_what_reconstruct_c_makes_of_them() {
        let runtime = Runtime::new().unwrap();
        // Extents that are smaller than a block, as large, and larger.
        for extent_size in [4096, 16_384] {
            let folder = tempfile::tempdir().unwrap();
            let repository = runtime.block_on(repository(folder.path(), extent_size));
            proptest!(ProptestConfig::with_cases(48), |(relation in relation())| {
                check(&repository, &runtime, &relation);
            });
        }
    }

    /// More than a window of extents, so that some are stored while others are still to come.
    #[test]
    fn a_file_of_several_windows_is_folded() {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let repository = runtime.block_on(repository(folder.path(), 4096));
        let block_size = 8192;
        let blocks = 3 * u32::try_from(WINDOW_BYTES).unwrap() / block_size;
        let segment = Segment {
            previous: content(1, (blocks * block_size) as usize - 5000),
            blocks: (0..blocks).filter(|number| number % 3 != 1).collect(),
            truncation: blocks - 7,
            cuts: Vec::new(),
        };
        let relation = Relation { block_size, segment_blocks: blocks, segments: vec![segment] };
        check(&repository, &runtime, &relation);
    }
}
