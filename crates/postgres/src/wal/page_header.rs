//! Headers of WAL pages (`XLogPageHeaderData` of `xlog_internal.h`), little endian.
//!
//! ```text
//! 0  u16 magic     4  u32 timeline   16 u32 bytes continuing a record
//! 2  u16 flags     8  u64 address    20 padding
//! long, on each segment's first page:
//! 24 u64 system identifier   32 u32 segment size   36 u32 block size
//! ```

use crate::lsn::Lsn;
use crate::system::SystemIdentifier;

/// Bytes of the header every page has.
pub(crate) const SHORT: usize = 24;
/// Bytes of the header a segment's first page has.
pub(crate) const LONG: usize = 40;

/// The page begins with the rest of a record.
pub(crate) const FIRST_IS_CONTINUATION: u16 = 0x0001;
/// The header is a long one.
pub(crate) const LONG_HEADER: u16 = 0x0002;
/// The record that should continue here was lost in a crash and is replaced.
pub(crate) const FIRST_IS_OVERWRITE: u16 = 0x0008;
/// All flags there are; 0x0004 marks full-page images as removable and does not concern reading.
const ALL_FLAGS: u16 = 0x000F;

/// What the long form adds.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct SegmentHeader {
    pub(crate) system_identifier: SystemIdentifier,
    pub(crate) segment_size: u32,
    pub(crate) block_size: u32,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct PageHeader {
    pub(crate) magic: u16,
    pub(crate) flags: u16,
    pub(crate) timeline: u32,
    pub(crate) address: Lsn,
    pub(crate) continuation: u32,
    pub(crate) segment: Option<SegmentHeader>,
}

impl PageHeader {
    /// Whether the first bytes announce a long header.
    pub(crate) fn is_long(bytes: &[u8; SHORT]) -> bool {
        u16::from_le_bytes([bytes[2], bytes[3]]) & LONG_HEADER != 0
    }

    /// Reads a header of either length; `LONG` bytes are used only when the flag says so.
    pub(crate) fn read(bytes: &[u8; LONG]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let flags = u16_at(2);
        PageHeader {
            magic: u16_at(0),
            flags,
            timeline: u32_at(4),
            address: Lsn(u64_at(8)),
            continuation: u32_at(16),
            segment: (flags & LONG_HEADER != 0).then(|| SegmentHeader {
                system_identifier: SystemIdentifier(u64_at(24)),
                segment_size: u32_at(32),
                block_size: u32_at(36),
            }),
        }
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether the flags are known and do not contradict each other.
    pub(crate) fn flags_are_possible(&self) -> bool {
        self.flags & !ALL_FLAGS == 0
            && !(self.has(FIRST_IS_CONTINUATION) && self.has(FIRST_IS_OVERWRITE))
    }
}
