//! Complete WAL records (`xlogrecord.h`).

use serde::{Deserialize, Serialize};

use super::block::{BlockHead, BlockReference};
use super::error::{WalReadError, WalReadErrorKind};
use crate::lsn::Lsn;
use crate::system::Xid;

/// Bytes of `XLogRecord`, the header of each record.
pub const RECORD_HEADER_SIZE: usize = 24;
/// The longest record accepted: a server cannot allocate, so not replay, 1 GiB or more.
pub const RECORD_SIZE_MAX: u32 = (1 << 30) - 1;
/// Records start at multiples of this.
pub const RECORD_ALIGNMENT: u64 = 8;

/// Numbers of the resource managers whose records this crate decodes (`rmgrlist.h`).
pub mod rmgr {
    /// Checkpoints, switches, restore points and what else concerns the WAL itself.
    pub const XLOG: u8 = 0;
    /// Ends of transactions.
    pub const XACT: u8 = 1;
    /// Creation and truncation of relation files.
    pub const SMGR: u8 = 2;
    /// Creation and removal of databases.
    pub const DBASE: u8 = 4;
    /// Creation and removal of tablespaces.
    pub const TBLSPC: u8 = 5;
    /// Which files hold the mapped catalogs.
    pub const RELMAP: u8 = 7;
    /// What a hot standby needs to know.
    pub const STANDBY: u8 = 8;
    /// Rows, second part: several at a time, pruning.
    pub const HEAP2: u8 = 9;
    /// Rows.
    pub const HEAP: u8 = 10;
}

/// `XLOG_SWITCH` of the resource manager [`rmgr::XLOG`]: the rest of the segment is unused.
pub(crate) const XLOG_SWITCH: u8 = 0x40;

/// Where a record stands.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct RecordSpan {
    /// Its first byte, PostgreSQL's `ReadRecPtr`.
    pub start: Lsn,
    /// The first position after it, aligned to 8: PostgreSQL's `EndRecPtr`, which a commit returns to
    /// its client and a server flushes up to. When a record fills its page this is the page boundary,
    /// and the next record starts behind that page's header. After `XLOG_SWITCH` it is the start of
    /// the next segment.
    pub end: Lsn,
}

/// A record whose CRC and place in the chain were checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WalRecord {
    /// Where it stands.
    pub span: RecordSpan,
    /// Start of the record before (`xl_prev`).
    pub prev: Lsn,
    /// The transaction that wrote it, or [`Xid::INVALID`].
    pub xid: Xid,
    /// The resource manager that knows how to replay it.
    pub rmgr: u8,
    /// `xl_info`: the resource manager's flags in the upper four bits.
    pub info: u8,
    /// The whole record after its 24-byte header: block references, then data.
    pub data: Vec<u8>,
}

/// Block reference ids above this are markers for what follows.
const BLOCK_ID_MAX: u8 = 32;
const ID_DATA_SHORT: u8 = 255;
const ID_DATA_LONG: u8 = 254;
const ID_ORIGIN: u8 = 253;
const ID_TOPLEVEL_XID: u8 = 252;

impl WalRecord {
    /// Whether this is `XLOG_SWITCH`.
    pub fn is_switch(&self) -> bool {
        self.rmgr == rmgr::XLOG && self.info & 0xF0 == XLOG_SWITCH
    }

    /// Bytes of the record with its header, without page headers and padding (`xl_tot_len`).
    pub fn length(&self) -> usize {
        self.data.len() + RECORD_HEADER_SIZE
    }

    /// The record's own data behind all block references, as the resource manager's structs lay it
    /// out.
    ///
    /// # Errors
    /// [`WalReadErrorKind::Content`] when the references do not add up to the record's length.
    pub fn main_data(&self, major: u32) -> Result<&[u8], WalReadError> {
        self.split_main_data(major).ok_or_else(|| {
            WalReadError::new(self.span.start, WalReadErrorKind::Content { what: "WAL" })
        })
    }

    /// The pages the record changes, in the record's order, and its own data behind them.
    ///
    /// # Errors
    /// [`WalReadErrorKind::Content`] when the references do not add up to the record's length.
    pub fn parts(&self, major: u32) -> Result<(Vec<BlockReference<'_>>, &[u8]), WalReadError> {
        let fail = || WalReadError::new(self.span.start, WalReadErrorKind::Content { what: "WAL" });
        let mut heads = Vec::new();
        let main = self.walk(major, |head| heads.push(head)).ok_or_else(fail)?;
        let claimed: usize = heads.iter().map(BlockHead::length).sum();
        let begin = self.data.len().checked_sub(claimed + main.len()).ok_or_else(fail)?;
        let mut rest = Cursor::new(self.data.get(begin..).unwrap_or_default());
        let mut blocks = Vec::with_capacity(heads.len());
        for head in heads {
            let block = head.with_bytes(&mut rest, major).ok_or_else(fail)?;
            blocks.push(block);
        }
        Ok((blocks, main))
    }

    fn split_main_data(&self, major: u32) -> Option<&[u8]> {
        self.walk(major, |_| {})
    }

    /// Reads the heads of all block references; gives the main data.
    fn walk(&self, major: u32, mut each: impl FnMut(BlockHead)) -> Option<&[u8]> {
        let mut rest = Cursor::new(&self.data);
        // Bytes at the record's end that the references read so far lay claim to.
        let mut claimed = 0usize;
        let mut main = 0usize;
        let mut relation = None;
        while rest.remaining() > claimed {
            match rest.u8()? {
                ID_DATA_SHORT => {
                    main = rest.u8()?.into();
                    claimed = claimed.checked_add(main)?;
                    break;
                }
                ID_DATA_LONG => {
                    main = usize::try_from(rest.u32()?).ok()?;
                    claimed = claimed.checked_add(main)?;
                    break;
                }
                ID_ORIGIN => rest.skip(2)?,
                ID_TOPLEVEL_XID => rest.skip(4)?,
                id if id <= BLOCK_ID_MAX => {
                    let head = BlockHead::read(id, &mut rest, major, &mut relation)?;
                    claimed = claimed.checked_add(head.length())?;
                    each(head);
                }
                _ => return None,
            }
        }
        if rest.remaining() != claimed {
            return None;
        }
        self.data.get(self.data.len().checked_sub(main)?..)
    }
}

/// Little-endian values taken off the front of a slice; `None` when it ends.
#[derive(Clone)]
pub(crate) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Cursor(bytes)
    }

    pub(crate) fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// An `int` count followed by that many items of a size.
    pub(crate) fn skip_counted(&mut self, item_size: usize) -> Option<()> {
        let count = usize::try_from(self.u32()?).ok()?;
        self.skip(count.checked_mul(item_size)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::wal::block::{BLOCK_HAS_IMAGE, BLOCK_SAME_RELATION};

    fn record(data: Vec<u8>) -> WalRecord {
        let span = RecordSpan { start: Lsn(0x28), end: Lsn(0x60) };
        WalRecord { span, prev: Lsn(0), xid: Xid(7), rmgr: 10, info: 0, data }
    }

    /// A block reference with an image of 3 bytes and data of 2, then main data of `main`.
    fn with_image(image_flags: u8, hole_length: &[u8], main: &[u8]) -> WalRecord {
        let mut data = vec![0, BLOCK_HAS_IMAGE, 2, 0, 3, 0, 9, 9, image_flags];
        data.extend(hole_length);
        data.extend([1; 16]);
        data.extend([ID_ORIGIN, 1, 0, ID_TOPLEVEL_XID, 1, 2, 3, 4]);
        data.extend([ID_DATA_SHORT, u8::try_from(main.len()).unwrap()]);
        data.extend([8; 5]);
        data.extend(main);
        record(data)
    }

    #[test]
    fn finds_the_main_data_behind_blocks() {
        assert_eq!(with_image(0x02, &[], b"main").main_data(15).unwrap(), b"main");
        // Bit 2 says "apply" from 15 on, and "compressed" before.
        assert_eq!(with_image(0x03, &[], b"main").main_data(17).unwrap(), b"main");
        assert_eq!(with_image(0x03, &[5, 0], b"main").main_data(14).unwrap(), b"main");
        assert_eq!(with_image(0x09, &[5, 0], b"main").main_data(17).unwrap(), b"main");
        assert!(with_image(0x03, &[], b"main").main_data(14).is_err());
        let mut long = vec![1, 0, 0, 0];
        long.extend([4; 16]);
        long.extend([2, BLOCK_SAME_RELATION, 0, 0, 4, 4, 4, 4, ID_DATA_LONG, 3, 0, 0, 0]);
        long.extend(b"abc");
        assert_eq!(record(long).main_data(15).unwrap(), b"abc");
        assert_eq!(record(Vec::new()).main_data(15).unwrap(), b"");
    }

    #[test]
    fn refuses_what_does_not_add_up() {
        for data in [vec![ID_DATA_SHORT, 9, 1], vec![ID_DATA_SHORT, 0, 1], vec![40], vec![0, 0]] {
            let error = record(data.clone()).main_data(15).unwrap_err();
            assert_eq!(error.lsn, Lsn(0x28), "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(data: Vec<u8>, major in 14u32..=18) {
            let _ = record(data).main_data(major);
        }
    }
}
