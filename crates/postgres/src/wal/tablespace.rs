//! The record that makes a tablespace, and how it is served so that the tablespace stays inside the copy.

use super::page_header;
use super::record::{RECORD_HEADER_SIZE, WalRecord, rmgr};
use super::segment::WalSegmentSize;
use crate::lsn::Lsn;

/// `XLOG_TBLSPC_CREATE` of PostgreSQL's `tablespace.h`.
const CREATE: u8 = 0x00;
/// Bytes of `xl_tblspc_create_rec` before the path: the tablespace's oid.
const PATH: usize = 4;

/// A byte of WAL that is served instead of the written one.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct WalPatch {
    /// Where it stands.
    pub at: Lsn,
    /// What is served there.
    pub byte: u8,
}

/// The path of the tablespace that a record of a server of version `major` makes
/// (`xl_tblspc_create_rec`), in the server's own encoding; none for any other record, and for a
/// tablespace inside the data directory, whose path is empty.
pub fn created_tablespace(record: &WalRecord, major: u32) -> Option<&[u8]> {
    if record.rmgr != rmgr::TBLSPC || record.info & 0xF0 != CREATE {
        return None;
    }
    let path = record.main_data(major).ok()?.get(PATH..)?;
    path.split(|byte| *byte == 0).next().filter(|path| !path.is_empty())
}

/// The bytes that give a record that makes a tablespace an empty path, and the checksum that it then
/// has: PostgreSQL from 15, and 14.5, on then makes a directory inside `pg_tblspc` instead of a link
/// (`create_tablespace_directories` of `tablespace.c`).
///
/// `wal` are the bytes from `begin` on; `wal_block_size` are the bytes of one WAL page. None when the
/// record makes no tablespace, or does not stand there whole.
pub fn tablespace_inside(
    record: &WalRecord,
    major: u32,
    wal: &[u8],
    begin: Lsn,
    segment_size: WalSegmentSize,
    wal_block_size: u32,
) -> Option<Vec<WalPatch>> {
    created_tablespace(record, major)?;
    let places = places(record.span.start, record.length(), segment_size, wal_block_size);
    let written = places
        .map(|at| {
            let offset = usize::try_from(at.0.checked_sub(begin.0)?).ok()?;
            Some((at, *wal.get(offset)?))
        })
        .collect::<Option<Vec<_>>>()?;
    let mut served: Vec<u8> = written.iter().map(|(_, byte)| *byte).collect();
    if served.get(RECORD_HEADER_SIZE..)? != record.data {
        return None;
    }
    let path = served.len() - record.main_data(major).ok()?.len() + PATH;
    *served.get_mut(path)? = 0;
    // The checksum covers the data first, then the header before itself (`ValidXLogRecord`).
    let crc = crc32c::crc32c_append(
        crc32c::crc32c(served.get(RECORD_HEADER_SIZE..)?),
        served.get(..RECORD_HEADER_SIZE - 4)?,
    );
    served.get_mut(RECORD_HEADER_SIZE - 4..RECORD_HEADER_SIZE)?.copy_from_slice(&crc.to_le_bytes());
    let both = written.into_iter().zip(served);
    Some(
        both.filter(|((_, old), new)| old != new)
            .map(|((at, _), byte)| WalPatch { at, byte })
            .collect(),
    )
}

/// Where the bytes of a record stand that begins at `start`: a record goes on behind each page's header.
fn places(
    start: Lsn,
    length: usize,
    segment_size: WalSegmentSize,
    wal_block_size: u32,
) -> impl Iterator<Item = Lsn> {
    let mut at = start;
    std::iter::repeat_with(move || {
        if at.0.is_multiple_of(u64::from(wal_block_size)) {
            let first_of_segment = segment_size.offset_in(at) == 0;
            let header = if first_of_segment { page_header::LONG } else { page_header::SHORT };
            at = at.saturating_add(header as u64);
        }
        let here = at;
        at = at.saturating_add(1);
        here
    })
    .take(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Xid;
    use crate::wal::record::RecordSpan;

    const SEGMENT: u64 = 1 << 20;

    fn size() -> WalSegmentSize {
        WalSegmentSize::new(SEGMENT).unwrap()
    }

    #[test]
    fn a_record_goes_on_behind_the_headers_of_pages() {
        for page in [4096, 8192, 65_536] {
            let at = |start: u64, length| {
                let block = u32::try_from(page).unwrap();
                places(Lsn(start), length, size(), block).map(|l| l.0).collect::<Vec<_>>()
            };
            let next = SEGMENT + page;
            assert_eq!(at(next - 2, 4), [next - 2, next - 1, next + 24, next + 25]);
            assert_eq!(at(2 * SEGMENT - 1, 2), [2 * SEGMENT - 1, 2 * SEGMENT + 40]);
        }
    }

    #[test]
    fn a_tablespace_without_a_path_has_a_checksum_of_its_own() {
        for page in [4096_u32, 8192] {
            let start = Lsn(SEGMENT + u64::from(page) - 8);
            let record = WalRecord {
                span: RecordSpan { start, end: Lsn(start.0 + 64) },
                prev: Lsn(SEGMENT + 40),
                xid: Xid(7),
                rmgr: rmgr::TBLSPC,
                info: CREATE,
                data: vec![255, 9, 1, 64, 0, 0, b'/', b's', b'r', b'v', 0],
            };
            assert_eq!(created_tablespace(&record, 17), Some(&b"/srv"[..]));
            let raw = [vec![7; RECORD_HEADER_SIZE], record.data.clone()].concat();
            let offset = |at: Lsn| usize::try_from(at.0 - SEGMENT).unwrap();
            let mut wal = vec![0; 2 * page as usize];
            for (at, byte) in places(start, raw.len(), size(), page).zip(&raw) {
                wal[offset(at)] = *byte;
            }
            let inside = |record: &WalRecord, wal: &[u8]| {
                tablespace_inside(record, 17, wal, Lsn(SEGMENT), size(), page)
            };
            let patches = inside(&record, &wal).unwrap();
            assert!(inside(&record, &wal[..page as usize]).is_none(), "it is not whole");
            let other = WalRecord { rmgr: rmgr::XACT, ..record.clone() };
            assert!(inside(&other, &wal).is_none(), "it makes no tablespace");
            for patch in &patches {
                wal[offset(patch.at)] = patch.byte;
            }
            let served: Vec<_> =
                places(start, raw.len(), size(), page).map(|at| wal[offset(at)]).collect();
            let mut wanted = record.data.clone();
            wanted[6] = 0;
            assert_eq!(served[RECORD_HEADER_SIZE..], wanted);
            let crc = crc32c::crc32c_append(crc32c::crc32c(&wanted), &served[..20]);
            assert_eq!(served[20..24], crc.to_le_bytes());
            let emptied = WalRecord { data: wanted, ..record };
            assert_eq!(created_tablespace(&emptied, 17), None, "it is inside");
        }
    }
}
