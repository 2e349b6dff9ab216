//! Block references of a WAL record: which page it changes, with what (`xlogrecord.h`).

use serde::{Deserialize, Serialize};

use super::record::Cursor;

/// Flags of a block reference: it carries a page image; it is of the same relation as the last.
pub(super) const BLOCK_HAS_IMAGE: u8 = 0x10;
pub(super) const BLOCK_SAME_RELATION: u8 = 0x80;
const FORK_MASK: u8 = 0x0F;

/// Flags of a page image. Those for compression were split in 15, and "apply" moved.
const IMAGE_HAS_HOLE: u8 = 0x01;
const IMAGE_COMPRESSED_14: u8 = 0x02;
const IMAGE_APPLY_14: u8 = 0x04;
const IMAGE_APPLY_15: u8 = 0x02;
const IMAGE_PGLZ: u8 = 0x04;
const IMAGE_LZ4: u8 = 0x08;
const IMAGE_ZSTD: u8 = 0x10;
const IMAGE_COMPRESSED_15: u8 = IMAGE_PGLZ | IMAGE_LZ4 | IMAGE_ZSTD;

/// Where a relation's files are (`RelFileLocator`).
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct RelationLocator {
    /// Oid of the tablespace.
    pub tablespace: u32,
    /// Oid of the database; 0 for what all databases share.
    pub database: u32,
    /// The number in the files' names.
    pub relfilenode: u32,
}

impl RelationLocator {
    pub(crate) fn read(from: &mut Cursor<'_>) -> Option<Self> {
        Some(Self { tablespace: from.u32()?, database: from.u32()?, relfilenode: from.u32()? })
    }
}

/// A page that a record changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlockReference<'a> {
    /// Its number within the record.
    pub id: u8,
    /// Whose page.
    pub relation: RelationLocator,
    /// Which of the relation's files: 0 is the data itself (`ForkNumber`).
    pub fork: u8,
    /// Which page.
    pub block: u32,
    /// The whole page as it is after the record, where one is carried that replay must use.
    pub image: Option<PageImage<'a>>,
    /// Data of this page.
    pub data: &'a [u8],
}

/// A page image as the record carries it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct PageImage<'a> {
    bytes: &'a [u8],
    hole_offset: u16,
    /// Known for compressed images; otherwise what is missing from a whole page.
    hole_length: Option<u16>,
    packing: Packing,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Packing {
    None,
    Pglz,
    Lz4,
    Zstd,
}

/// A block reference without its bytes, which stand behind all heads.
pub(super) struct BlockHead {
    id: u8,
    flags: u8,
    data: u16,
    image: Option<ImageHead>,
    relation: RelationLocator,
    block: u32,
}

struct ImageHead {
    length: u16,
    hole_offset: u16,
    hole_length: Option<u16>,
    info: u8,
}

impl BlockHead {
    pub(super) fn read(
        id: u8,
        from: &mut Cursor<'_>,
        major: u32,
        last: &mut Option<RelationLocator>,
    ) -> Option<Self> {
        let flags = from.u8()?;
        let data = from.u16()?;
        let image = if flags & BLOCK_HAS_IMAGE != 0 {
            let length = from.u16()?;
            let hole_offset = from.u16()?;
            let info = from.u8()?;
            let compressed = if major < 15 { IMAGE_COMPRESSED_14 } else { IMAGE_COMPRESSED_15 };
            let hole_length = match (info & IMAGE_HAS_HOLE != 0, info & compressed != 0) {
                (true, true) => Some(from.u16()?),
                (true, false) => None,
                (false, _) => Some(0),
            };
            Some(ImageHead { length, hole_offset, hole_length, info })
        } else {
            None
        };
        if flags & BLOCK_SAME_RELATION == 0 {
            *last = Some(RelationLocator::read(from)?);
        }
        let relation = (*last)?;
        Some(Self { id, flags, data, image, relation, block: from.u32()? })
    }

    /// Bytes that stand behind the heads for this block.
    pub(super) fn length(&self) -> usize {
        usize::from(self.data) + self.image.as_ref().map_or(0, |i| usize::from(i.length))
    }

    pub(super) fn with_bytes<'a>(
        self,
        from: &mut Cursor<'a>,
        major: u32,
    ) -> Option<BlockReference<'a>> {
        let image = match self.image {
            Some(head) => {
                let bytes = from.take(head.length.into())?;
                let apply = if major < 15 { IMAGE_APPLY_14 } else { IMAGE_APPLY_15 };
                let packing = match head.info {
                    info if major < 15 && info & IMAGE_COMPRESSED_14 != 0 => Packing::Pglz,
                    info if major >= 15 && info & IMAGE_PGLZ != 0 => Packing::Pglz,
                    info if major >= 15 && info & IMAGE_LZ4 != 0 => Packing::Lz4,
                    info if major >= 15 && info & IMAGE_ZSTD != 0 => Packing::Zstd,
                    _ => Packing::None,
                };
                let image = PageImage {
                    bytes,
                    hole_offset: head.hole_offset,
                    hole_length: head.hole_length,
                    packing,
                };
                Some(image).filter(|_| head.info & apply != 0)
            }
            None => None,
        };
        Some(BlockReference {
            id: self.id,
            relation: self.relation,
            fork: self.flags & FORK_MASK,
            block: self.block,
            image,
            data: from.take(self.data.into())?,
        })
    }
}

impl PageImage<'_> {
    /// The whole page; `None` when the image does not give one of `page_size` bytes.
    #[must_use]
    pub fn page(&self, page_size: usize) -> Option<Vec<u8>> {
        let hole = match self.hole_length {
            Some(length) => usize::from(length),
            None => page_size.checked_sub(self.bytes.len())?,
        };
        let solid = page_size.checked_sub(hole)?;
        let unpacked = match self.packing {
            Packing::None => self.bytes.to_vec(),
            Packing::Pglz => pglz(self.bytes, solid)?,
            Packing::Lz4 => lz4_flex::block::decompress(self.bytes, solid).ok()?,
            Packing::Zstd => zstd::bulk::decompress(self.bytes, solid).ok()?,
        };
        if unpacked.len() != solid {
            return None;
        }
        let offset = usize::from(self.hole_offset);
        let (before, after) = unpacked.split_at_checked(offset)?;
        let mut page = Vec::with_capacity(page_size);
        page.extend_from_slice(before);
        page.resize(offset + hole, 0);
        page.extend_from_slice(after);
        Some(page)
    }
}

/// Unpacks PostgreSQL's own compression (`pg_lzcompress.c`): a control byte, then eight items, each
/// a literal byte or a copy of 3 to 273 bytes from at most 4095 bytes back.
fn pglz(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut from = Cursor::new(packed);
    let mut out = Vec::with_capacity(length);
    while from.remaining() > 0 && out.len() < length {
        let mut control = from.u8()?;
        for _ in 0..8 {
            if from.remaining() == 0 || out.len() >= length {
                break;
            }
            if control & 1 == 0 {
                out.push(from.u8()?);
            } else {
                let (first, second) = (usize::from(from.u8()?), usize::from(from.u8()?));
                let mut count = (first & 0x0F) + 3;
                let back = (first & 0xF0) << 4 | second;
                if count == 18 {
                    count += usize::from(from.u8()?);
                }
                let start = out.len().checked_sub(back).filter(|_| back > 0)?;
                for at in (start..).take(count.min(length - out.len())) {
                    // The source may run into what is being written: that repeats it.
                    out.push(*out.get(at)?);
                }
            }
            control >>= 1;
        }
    }
    (out.len() == length && from.remaining() == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unpacks_literals_and_repeats() {
        // Three literals, then a copy of 9 from 3 back, which repeats them.
        let packed = [0b0000_1000, b'a', b'b', b'c', 6, 3];
        assert_eq!(pglz(&packed, 12).unwrap(), b"abcabcabcabc");
        assert_eq!(pglz(&packed, 13), None);
        assert_eq!(pglz(&[1, 0, 9], 3), None, "before the beginning");
    }

    #[test]
    fn fills_the_hole() {
        let image = PageImage {
            bytes: b"headtail",
            hole_offset: 4,
            hole_length: None,
            packing: Packing::None,
        };
        assert_eq!(image.page(12).unwrap(), b"head\0\0\0\0tail");
        assert_eq!(image.page(7), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>, length in 0usize..10_000) {
            let _ = pglz(&bytes, length);
        }
    }
}
