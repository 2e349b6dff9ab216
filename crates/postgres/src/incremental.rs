//! Files of an incremental base backup (`basebackup_incremental.h`, `basebackup.c`, `reconstruct.c`).
//!
//! A relation file of which little changed arrives as `INCREMENTAL.<name>`: which blocks follow, how
//! long the file is without them, and the blocks as they were read. The file itself is made of these
//! and of the same file in an older backup; [`IncrementalHeader::source_of`] has the rule.

use std::fmt;

use crate::relation::relation_file;

/// What an incremental file begins with, little-endian (`INCREMENTAL_MAGIC`).
pub const INCREMENTAL_MAGIC: u32 = 0xd3ae_1f0d;

/// What its name begins with (`INCREMENTAL_PREFIX`).
pub const INCREMENTAL_PREFIX: &str = "INCREMENTAL.";

/// Magic number, number of blocks, truncation block length.
const FIXED_BYTES: usize = 12;

/// No server is built with larger blocks.
const BLOCK_SIZE_MAX: u32 = 32 * 1024;

/// The path of the relation file that an incremental file stands for, `None` when the path is no
/// incremental file's. Any relation may have a row of that name; only the names of relation files count.
#[must_use]
pub fn incremental_target(path: &str) -> Option<String> {
    let (folder, name) = path.rsplit_once('/')?;
    let target = format!("{folder}/{}", name.strip_prefix(INCREMENTAL_PREFIX)?);
    relation_file(&target).map(|_| target)
}

/// Which blocks an incremental file brings.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct IncrementalHeader {
    /// Blocks that follow, ascending, counted from the start of the segment.
    pub blocks: Vec<u32>,
    /// How many blocks of the older file still count, at most a segment's: servers up to 17.7 and 18.1
    /// wrote more when a relation of several segments had been truncated.
    pub truncation_block_length: u32,
}

/// Where a block of the reconstructed file comes from.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub enum BlockSource {
    /// The incremental file brings it.
    Incremental,
    /// The older file has it, or it is zeros when that is shorter.
    Older,
    /// Nothing has it: it is zeros.
    Zeros,
}

impl IncrementalHeader {
    /// Blocks of the reconstructed file (`find_reconstructed_block_length`).
    #[must_use]
    pub fn length_in_blocks(&self) -> u32 {
        let highest = self.blocks.last().map_or(0, |block| block.saturating_add(1));
        highest.max(self.truncation_block_length)
    }

    /// Where a block below [`Self::length_in_blocks`] comes from (`reconstruct_from_incremental_file`).
    #[must_use]
    pub fn source_of(&self, block: u32) -> BlockSource {
        if self.blocks.binary_search(&block).is_ok() {
            BlockSource::Incremental
        } else if block < self.truncation_block_length {
            BlockSource::Older
        } else {
            BlockSource::Zeros
        }
    }
}

/// What the reader reports: the header, then every block in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum IncrementalEvent<'a> {
    /// The header is complete.
    Header(&'a IncrementalHeader),
    /// A block, whole.
    Block {
        /// Its number within the segment.
        number: u32,
        /// Its bytes.
        page: &'a [u8],
    },
}

/// Why bytes are no incremental file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IncrementalError {
    /// It begins with something else.
    #[error("an incremental file begins with {found:#010x}")]
    Magic {
        /// The first four bytes.
        found: u32,
    },
    /// More blocks than a segment has.
    #[error("an incremental file has {count} blocks, and a segment at most {limit}")]
    TooManyBlocks {
        /// Blocks it claims to have.
        count: u32,
        /// Blocks of a segment.
        limit: u32,
    },
    /// A block beyond the segment, or not after the one before.
    #[error("an incremental file lists block {block} out of order or beyond its segment")]
    Block {
        /// The block.
        block: u32,
    },
    /// Bytes follow the last block.
    #[error("an incremental file goes on after its last block")]
    TooLong,
    /// It ends before its last block.
    #[error("an incremental file ends {missing} bytes early")]
    Truncated {
        /// Bytes that are missing at least.
        missing: u64,
    },
    /// The sizes it is to be read with are no server's.
    #[error("blocks of {block_size} bytes are not possible")]
    BlockSize {
        /// Bytes of a block.
        block_size: u32,
    },
}

enum State {
    Fixed,
    Numbers { count: u32, truncation: u32 },
    Padding { left: usize },
    Blocks,
}

/// Reads an incremental file in pieces of any size. Keeps the list of blocks and at most one page.
pub struct IncrementalReader {
    block_size: usize,
    segment_blocks: u32,
    state: State,
    /// Bytes of the part that is not complete yet.
    part: Vec<u8>,
    header: IncrementalHeader,
    next: usize,
}

impl fmt::Debug for IncrementalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncrementalReader({} of {} blocks)", self.next, self.header.blocks.len())
    }
}

impl IncrementalReader {
    /// A reader at the start of a file, for blocks of `block_size` bytes and segments of
    /// `segment_blocks` blocks.
    ///
    /// # Errors
    /// [`IncrementalError::BlockSize`].
    pub fn new(block_size: u32, segment_blocks: u32) -> Result<Self, IncrementalError> {
        if !block_size.is_power_of_two() || !(1024..=BLOCK_SIZE_MAX).contains(&block_size) {
            return Err(IncrementalError::BlockSize { block_size });
        }
        Ok(Self {
            block_size: block_size as usize,
            segment_blocks,
            state: State::Fixed,
            part: Vec::new(),
            header: IncrementalHeader { blocks: Vec::new(), truncation_block_length: 0 },
            next: 0,
        })
    }

    /// Takes the next bytes and reports what they complete.
    ///
    /// # Errors
    /// See [`IncrementalError`], and what `sink` says. The reader is of no use afterwards.
    pub fn push<E: From<IncrementalError>>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(IncrementalEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            match self.state {
                State::Fixed => {
                    if self.gather(&mut bytes, FIXED_BYTES) {
                        self.fixed(sink)?;
                    }
                }
                State::Numbers { count, truncation } => {
                    // Cannot overflow: a segment's blocks were compared with the limit.
                    if self.gather(&mut bytes, 4 * count as usize) {
                        self.numbers(truncation)?;
                        sink(IncrementalEvent::Header(&self.header))?;
                    }
                }
                State::Padding { left } => {
                    let now = left.min(bytes.len());
                    bytes = &bytes[now..];
                    self.state = match left - now {
                        0 => State::Blocks,
                        left => State::Padding { left },
                    };
                }
                State::Blocks => {
                    let Some(number) = self.header.blocks.get(self.next).copied() else {
                        return Err(IncrementalError::TooLong.into());
                    };
                    if self.part.is_empty() && bytes.len() >= self.block_size {
                        // The usual case: a page that lies in one piece is not copied.
                        let (page, rest) = bytes.split_at(self.block_size);
                        bytes = rest;
                        sink(IncrementalEvent::Block { number, page })?;
                        self.next += 1;
                    } else if self.gather(&mut bytes, self.block_size) {
                        sink(IncrementalEvent::Block { number, page: &self.part })?;
                        self.part.clear();
                        self.next += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Confirms that the file is whole, and gives its header.
    ///
    /// # Errors
    /// [`IncrementalError::Truncated`].
    pub fn finish(self) -> Result<IncrementalHeader, IncrementalError> {
        let missing = match self.state {
            State::Fixed => FIXED_BYTES - self.part.len(),
            State::Numbers { count, .. } => 4 * count as usize - self.part.len(),
            State::Padding { left } => left,
            State::Blocks => {
                (self.header.blocks.len() - self.next) * self.block_size - self.part.len()
            }
        };
        if missing == 0 {
            Ok(self.header)
        } else {
            Err(IncrementalError::Truncated { missing: missing as u64 })
        }
    }

    /// Fills the current part up to `length`; whether it is complete.
    fn gather(&mut self, bytes: &mut &[u8], length: usize) -> bool {
        let now = bytes.len().min(length - self.part.len());
        let (taken, rest) = bytes.split_at(now);
        self.part.extend_from_slice(taken);
        *bytes = rest;
        self.part.len() == length
    }

    fn fixed<E: From<IncrementalError>>(
        &mut self,
        sink: &mut impl FnMut(IncrementalEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let part = std::mem::take(&mut self.part);
        let [found, count, truncation] = [0, 4, 8].map(|at| number(&part, at));
        if found != INCREMENTAL_MAGIC {
            return Err(IncrementalError::Magic { found }.into());
        }
        if count > self.segment_blocks {
            let limit = self.segment_blocks;
            return Err(IncrementalError::TooManyBlocks { count, limit }.into());
        }
        if count == 0 {
            self.header.truncation_block_length = truncation.min(self.segment_blocks);
            self.state = State::Blocks;
            sink(IncrementalEvent::Header(&self.header))?;
        } else {
            self.state = State::Numbers { count, truncation };
        }
        Ok(())
    }

    fn numbers(&mut self, truncation: u32) -> Result<(), IncrementalError> {
        let part = std::mem::take(&mut self.part);
        let blocks: Vec<u32> = (0..part.len()).step_by(4).map(|at| number(&part, at)).collect();
        let mut least = 0;
        for block in &blocks {
            if *block < least || *block >= self.segment_blocks {
                return Err(IncrementalError::Block { block: *block });
            }
            least = block + 1;
        }
        self.header = IncrementalHeader {
            blocks,
            truncation_block_length: truncation.min(self.segment_blocks),
        };
        // Blocks begin at a multiple of their size, so that equal blocks can be recognised.
        let used = FIXED_BYTES + part.len();
        self.state = match used.next_multiple_of(self.block_size) - used {
            0 => State::Blocks,
            left => State::Padding { left },
        };
        Ok(())
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const SIZE: u32 = 1024;
    const SEGMENT: u32 = 400;

    fn written(header: &IncrementalHeader, pages: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        let count = u32::try_from(header.blocks.len()).unwrap();
        for value in [INCREMENTAL_MAGIC, count, header.truncation_block_length] {
            file.extend_from_slice(&value.to_le_bytes());
        }
        for block in &header.blocks {
            file.extend_from_slice(&block.to_le_bytes());
        }
        if count > 0 {
            file.resize(file.len().next_multiple_of(SIZE as usize), 0);
        }
        for page in pages {
            file.extend_from_slice(page);
        }
        file
    }

    type Read = (Option<IncrementalHeader>, Vec<(u32, Vec<u8>)>);

    fn read(pieces: &[&[u8]]) -> Result<Read, IncrementalError> {
        let mut reader = IncrementalReader::new(SIZE, SEGMENT).unwrap();
        let mut seen: Read = (None, Vec::new());
        for piece in pieces {
            reader.push(piece, &mut |event| {
                match event {
                    IncrementalEvent::Header(header) => {
                        assert_eq!(seen.0.replace(header.clone()), None);
                    }
                    IncrementalEvent::Block { number, page } => {
                        seen.1.push((number, page.to_vec()))
                    }
                }
                Ok::<_, IncrementalError>(())
            })?;
        }
        let header = reader.finish()?;
        assert_eq!(seen.0.as_ref(), Some(&header));
        Ok(seen)
    }

    #[test]
    fn only_relation_files_come_as_incremental_files() {
        assert_eq!(incremental_target("base/5/INCREMENTAL.1259.1").unwrap(), "base/5/1259.1");
        let inside = "pg_tblspc/16400/PG_17_1/5/INCREMENTAL.9_vm";
        assert_eq!(incremental_target(inside).unwrap(), "pg_tblspc/16400/PG_17_1/5/9_vm");
        for path in
            ["base/5/1259", "base/5/INCREMENTAL.", "base/5/INCREMENTAL.note", "INCREMENTAL.1259"]
        {
            assert_eq!(incremental_target(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_without_blocks_has_no_padding() {
        let header = IncrementalHeader { blocks: Vec::new(), truncation_block_length: 7 };
        let file = written(&header, &[]);
        assert_eq!(file.len(), 12);
        assert_eq!(read(&[&file]).unwrap(), (Some(header.clone()), Vec::new()));
        assert_eq!((header.length_in_blocks(), header.source_of(6)), (7, BlockSource::Older));
        let longer = [file.clone(), vec![0]].concat();
        assert_eq!(read(&[&longer]).unwrap_err(), IncrementalError::TooLong);
        assert_eq!(read(&[&file[..11]]).unwrap_err(), IncrementalError::Truncated { missing: 1 });
    }

    #[test]
    fn the_length_and_the_sources_follow_reconstruct_c() {
        use BlockSource::{Incremental as I, Older as O, Zeros as Z};
        let header = IncrementalHeader { blocks: vec![1, 9], truncation_block_length: 4 };
        assert_eq!(header.length_in_blocks(), 10);
        let sources: Vec<_> = (0..10).map(|block| header.source_of(block)).collect();
        assert_eq!(sources, [O, I, O, O, Z, Z, Z, Z, Z, I]);
    }

    /// What 17.7 and 18.1 write after a relation of several segments was truncated.
    #[test]
    fn a_truncation_length_beyond_the_segment_is_clamped() {
        let header = IncrementalHeader { blocks: vec![0], truncation_block_length: SEGMENT * 3 };
        let file = written(&header, &[vec![1; SIZE as usize]]);
        let (read, _) = read(&[&file]).unwrap();
        assert_eq!(read.unwrap().truncation_block_length, SEGMENT);
        let mut bare = written(&header, &[]);
        bare.truncate(12);
        bare[4..8].fill(0);
        let mut reader = IncrementalReader::new(SIZE, SEGMENT).unwrap();
        reader.push(&bare, &mut |_| Ok::<_, IncrementalError>(())).unwrap();
        assert_eq!(reader.finish().unwrap().truncation_block_length, SEGMENT);
    }

    #[test]
    fn damaged_headers_are_refused() {
        let header = |blocks: Vec<u32>| IncrementalHeader { blocks, truncation_block_length: 1 };
        let mut file = written(&header(vec![1]), &[vec![0; SIZE as usize]]);
        file[0] ^= 1;
        assert!(matches!(read(&[&file]).unwrap_err(), IncrementalError::Magic { .. }));
        for blocks in [vec![2, 2], vec![2, 1], vec![SEGMENT]] {
            let pages = vec![vec![0; SIZE as usize]; blocks.len()];
            let file = written(&header(blocks), &pages);
            assert!(matches!(read(&[&file]).unwrap_err(), IncrementalError::Block { .. }));
        }
        let mut huge = written(&header(Vec::new()), &[]);
        huge[4..8].fill(0xFF);
        assert!(matches!(read(&[&huge]).unwrap_err(), IncrementalError::TooManyBlocks { .. }));
        assert!(IncrementalReader::new(1000, SEGMENT).is_err());
        assert!(IncrementalReader::new(0, SEGMENT).is_err());
    }

    proptest! {
        #[test]
        fn files_round_trip_however_they_are_cut(
            blocks in proptest::collection::btree_set(0..SEGMENT, 0..300),
            truncation in 0..=SEGMENT,
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let header = IncrementalHeader {
                blocks: blocks.into_iter().collect(),
                truncation_block_length: truncation,
            };
            let pages: Vec<Vec<u8>> = header
                .blocks
                .iter()
                .map(|block| vec![u8::try_from(block % 251).unwrap(); SIZE as usize])
                .collect();
            let file = written(&header, &pages);
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(file.len())).collect();
            ends.extend([0, file.len()]);
            ends.sort_unstable();
            let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &file[ends[0]..ends[1]]).collect();
            let (read_header, read_pages) = read(&pieces).unwrap();
            prop_assert_eq!(read_header, Some(header.clone()));
            let expected: Vec<_> = header.blocks.iter().copied().zip(pages).collect();
            prop_assert_eq!(read_pages, expected);
            if let Some(last) = file.len().checked_sub(1) {
                let truncated = matches!(read(&[&file[..last]]), Err(IncrementalError::Truncated { .. }));
                prop_assert!(truncated);
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, magic: bool) {
            let mut file = bytes;
            if magic {
                file.splice(0..0, INCREMENTAL_MAGIC.to_le_bytes());
            }
            let _ = read(&[&file]);
        }
    }
}
