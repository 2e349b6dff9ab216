//! Rows on heap pages (`bufpage.h`, `itemid.h`, `htup_details.h`), and the few columns of system
//! catalogs that give things their names.

use crate::wal::block::BlockReference;
use crate::wal::record::{Cursor, WalRecord, rmgr};

/// Bytes of a row's header that the WAL does not repeat (`SizeofHeapTupleHeader`).
const TUPLE_HEADER: usize = 23;
const PAGE_HEADER: usize = 24;
const LINE_POINTER: usize = 4;
/// `LP_NORMAL`.
const NORMAL: u32 = 1;
/// `NAMEDATALEN`.
const NAME: usize = 64;

/// The rows of a page by their line number, from 1: header and all. Damaged line pointers are left
/// out.
pub fn tuples(page: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let at = |offset: usize| -> Option<u16> {
        Some(u16::from_le_bytes([*page.get(offset)?, *page.get(offset + 1)?]))
    };
    let lower = usize::from(at(12).unwrap_or(0)).min(page.len());
    let pointers = page.get(PAGE_HEADER..lower).unwrap_or_default();
    (1u16..).zip(pointers.as_chunks::<LINE_POINTER>().0).filter_map(move |(line, pointer)| {
        let pointer = u32::from_le_bytes(*pointer);
        let offset = usize::try_from(pointer & 0x7FFF).ok()?;
        let length = usize::try_from(pointer >> 17).ok()?;
        let tuple = page.get(offset..offset.checked_add(length)?)?;
        (pointer >> 15 & 3 == NORMAL && length > TUPLE_HEADER).then_some((line, tuple))
    })
}

/// What a record does to one row of a heap page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RowChange {
    /// A row stands at this line of this page.
    Put {
        /// The page.
        block: u32,
        /// The line.
        line: u16,
        /// The row with its header, whose first 23 bytes are not those of the page.
        tuple: Vec<u8>,
    },
    /// The row at this line went.
    Removed {
        /// The page.
        block: u32,
        /// The line.
        line: u16,
    },
}

/// The rows that a heap record changes; `old` gives the row at a page's line as it was before, for an
/// update that only carries what differs. `None` when the record is malformed or leans on a row that
/// is not known. Pages that are carried whole are not repeated here.
pub fn row_changes(
    record: &WalRecord,
    blocks: &[BlockReference<'_>],
    main: &[u8],
    old: impl Fn(u32, u16) -> Option<Vec<u8>>,
) -> Option<Vec<RowChange>> {
    let first = blocks.iter().find(|b| b.id == 0);
    let mut data = Cursor::new(main);
    match (record.rmgr, record.info & 0x70) {
        (rmgr::HEAP, 0x00) => {
            let block = first?;
            let line = data.u16()?;
            if block.data.is_empty() {
                return Some(Vec::new());
            }
            let tuple = assemble(block.data, 0, 0, &[])?;
            Some(vec![RowChange::Put { block: block.block, line, tuple }])
        }
        (rmgr::HEAP, 0x10) => {
            data.skip(4)?;
            Some(vec![RowChange::Removed { block: first?.block, line: data.u16()? }])
        }
        (rmgr::HEAP, 0x20 | 0x40) => {
            let new = first?;
            let before = blocks.iter().find(|b| b.id == 1).map_or(new.block, |b| b.block);
            data.skip(4)?;
            let old_line = data.u16()?;
            data.skip(1)?;
            let flags = data.u8()?;
            data.skip(4)?;
            let line = data.u16()?;
            let mut changes = vec![RowChange::Removed { block: before, line: old_line }];
            if !new.data.is_empty() {
                let mut bytes = Cursor::new(new.data);
                let prefix = if flags & 0x20 != 0 { usize::from(bytes.u16()?) } else { 0 };
                let suffix = if flags & 0x40 != 0 { usize::from(bytes.u16()?) } else { 0 };
                let row = if prefix + suffix > 0 { old(before, old_line)? } else { Vec::new() };
                let rest = bytes.take(bytes.remaining())?;
                let tuple = assemble(rest, prefix, suffix, &row)?;
                changes.push(RowChange::Put { block: new.block, line, tuple });
            }
            Some(changes)
        }
        // Changed where it stands: the row's head stays.
        (rmgr::HEAP, 0x70) => {
            let block = first?;
            let line = data.u16()?;
            if block.data.is_empty() {
                return Some(Vec::new());
            }
            let mut tuple = old(block.block, line)?;
            tuple.truncate(usize::from(*tuple.get(22)?));
            tuple.extend_from_slice(block.data);
            Some(vec![RowChange::Put { block: block.block, line, tuple }])
        }
        (rmgr::HEAP2, 0x50) => {
            let block = first?;
            data.skip(2)?;
            let count = data.u16()?;
            // A page made anew takes the rows in order; otherwise their lines are listed.
            let listed = record.info & 0x80 == 0;
            let mut bytes = Cursor::new(block.data);
            let mut changes = Vec::new();
            let mut taken = 0usize;
            for n in 1..=count {
                let line = if listed { data.u16()? } else { n };
                if block.data.is_empty() {
                    continue;
                }
                // Each row's head stands at an even place.
                if taken % 2 == 1 {
                    bytes.skip(1)?;
                    taken += 1;
                }
                let length = usize::from(bytes.u16()?);
                let head = bytes.take(5)?;
                let body = bytes.take(length)?;
                taken += 7 + length;
                let tuple = assemble(&[head, body].concat(), 0, 0, &[])?;
                changes.push(RowChange::Put { block: block.block, line, tuple });
            }
            Some(changes)
        }
        _ => Some(Vec::new()),
    }
}

/// Puts a row together from `xl_heap_header` and what follows it, and from the ends of the row before.
fn assemble(bytes: &[u8], prefix: usize, suffix: usize, old: &[u8]) -> Option<Vec<u8>> {
    let mut from = Cursor::new(bytes);
    let infomask2 = from.u16()?;
    let infomask = from.u16()?;
    let hoff = from.u8()?;
    let mut tuple = vec![0; TUPLE_HEADER];
    tuple[18..20].copy_from_slice(&infomask2.to_le_bytes());
    tuple[20..22].copy_from_slice(&infomask.to_le_bytes());
    tuple[22] = hoff;
    let bitmap = usize::from(hoff).checked_sub(TUPLE_HEADER)?;
    tuple.extend_from_slice(from.take(bitmap)?);
    if prefix > 0 {
        let start = usize::from(*old.get(22)?);
        tuple.extend_from_slice(old.get(start..start.checked_add(prefix)?)?);
    }
    let rest = from.remaining();
    tuple.extend_from_slice(from.take(rest)?);
    if suffix > 0 {
        tuple.extend_from_slice(old.get(old.len().checked_sub(suffix)?..)?);
    }
    Some(tuple)
}

/// What an update of a row of `pg_class` says of the relation's file, read without knowing the page it
/// stands on: the WAL carries only what differs from the row before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassFileUpdate {
    /// The relation's oid, where the record carries it.
    pub oid: Option<u32>,
    /// The number of its files before, where the record carries it.
    pub before: Option<u32>,
    /// Byte by byte the number of its files now; none where it is as before.
    now: [Option<u8>; 4],
}

impl ClassFileUpdate {
    /// One that is known whole.
    #[must_use]
    pub fn whole(before: Option<u32>, now: u32) -> Self {
        Self { oid: None, before, now: now.to_le_bytes().map(Some) }
    }

    /// The number of the files now, if it was `before` until then; none when it cannot have been.
    #[must_use]
    pub fn successor(&self, before: u32) -> Option<u32> {
        if self.before.is_some_and(|known| known != before) {
            return None;
        }
        let mut bytes = before.to_le_bytes();
        for (byte, now) in bytes.iter_mut().zip(self.now) {
            *byte = now.unwrap_or(*byte);
        }
        Some(u32::from_le_bytes(bytes)).filter(|now| *now != before)
    }

    /// Whether the record alone tells the number of the files now.
    #[must_use]
    pub fn stands_alone(&self) -> Option<u32> {
        let [Some(a), Some(b), Some(c), Some(d)] = self.now else { return None };
        Some(u32::from_le_bytes([a, b, c, d]))
    }
}

/// Where `relfilenode` stands in a row of `pg_class`, and where `oid`.
const CLASS_FILE: usize = 88;
const CLASS_OID: usize = 0;

/// Reads an update of `pg_class`; none for other records, and where nothing of the row is carried.
#[must_use]
pub fn class_file_update(
    record: &WalRecord,
    blocks: &[BlockReference<'_>],
    main: &[u8],
    page_size: usize,
) -> Option<ClassFileUpdate> {
    if record.rmgr != rmgr::HEAP || !matches!(record.info & 0x70, 0x20 | 0x40) {
        return None;
    }
    let new = blocks.iter().find(|b| b.id == 0)?;
    let old = blocks.iter().find(|b| b.id == 1);
    let mut data = Cursor::new(main);
    data.skip(4)?;
    let old_line = data.u16()?;
    data.skip(1)?;
    let flags = data.u8()?;
    data.skip(4)?;
    let line = data.u16()?;
    let row_at = |block: &BlockReference<'_>, wanted: u16| {
        let page = block.image?.page(page_size)?;
        tuples(&page).find(|(line, _)| *line == wanted).map(|(_, tuple)| tuple.to_vec())
    };
    let before = row_at(old.unwrap_or(new), old_line).and_then(|row| oid(&row, CLASS_FILE));
    if let Some(row) = row_at(new, line) {
        let now = oid(&row, CLASS_FILE)?.to_le_bytes().map(Some);
        return Some(ClassFileUpdate { oid: oid(&row, CLASS_OID), before, now });
    }
    let mut bytes = Cursor::new(new.data);
    let prefix = if flags & 0x20 != 0 { usize::from(bytes.u16()?) } else { 0 };
    if flags & 0x40 != 0 {
        bytes.skip(2)?;
    }
    bytes.skip(4)?;
    let bitmap = usize::from(bytes.u8()?).checked_sub(TUPLE_HEADER)?;
    bytes.skip(bitmap)?;
    let carried = bytes.take(bytes.remaining())?;
    let byte = |at: usize| at.checked_sub(prefix).and_then(|at| carried.get(at)).copied();
    let number = |from: usize| -> [Option<u8>; 4] { std::array::from_fn(|n| byte(from + n)) };
    let whole = |[a, b, c, d]: [Option<u8>; 4]| Some(u32::from_le_bytes([a?, b?, c?, d?]));
    Some(ClassFileUpdate { oid: whole(number(CLASS_OID)), before, now: number(CLASS_FILE) })
}

/// Whether a page belongs to an index: only those keep something of their own at their end
/// (`pd_special`).
#[must_use]
pub fn is_index_page(page: &[u8]) -> bool {
    let special = page.get(16..18).and_then(|bytes| Cursor::new(bytes).u16());
    special.is_some_and(|special| special != 0 && usize::from(special) < page.len())
}

/// What `pg_class` says of a relation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassRow {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Oid of its schema.
    pub namespace: u32,
    /// The number of its files; 0 for a mapped catalog or a relation without files.
    pub relfilenode: u32,
    /// Its kind: `r` table, `i` index, `t` TOAST table, `v` view and so on.
    pub kind: char,
    /// How many rows it had when it was last looked at; none when never.
    pub rows: Option<u64>,
}

fn column(tuple: &[u8], offset: usize) -> Option<&[u8]> {
    tuple.get(usize::from(*tuple.get(22)?).checked_add(offset)?..)
}

fn oid(tuple: &[u8], offset: usize) -> Option<u32> {
    Cursor::new(column(tuple, offset)?).u32()
}

fn name(tuple: &[u8], offset: usize) -> Option<String> {
    let bytes = column(tuple, offset)?.get(..NAME)?;
    let text = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Reads a row of `pg_class` (`pg_class.h`; all these columns are of fixed size and never null).
#[must_use]
pub fn class_row(tuple: &[u8], major: u32) -> Option<ClassRow> {
    // 18 put relallfrozen before it.
    let kind = if major >= 18 { 119 } else { 115 };
    let rows = f32::from_le_bytes(*column(tuple, 100)?.first_chunk()?);
    Some(ClassRow {
        oid: oid(tuple, 0)?,
        name: name(tuple, 4)?,
        namespace: oid(tuple, 68)?,
        relfilenode: oid(tuple, 88)?,
        kind: char::from(*column(tuple, kind)?.first()?),
        // -1 says that nobody has looked. Counts of tables are far below 2^63.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        rows: (rows >= 0.0).then_some(rows as u64),
    })
}

/// Whether a row on a page still counts: nobody has deleted it or replaced it, as far as its own
/// header tells (`HEAP_XMAX_INVALID`).
#[must_use]
pub fn is_current(tuple: &[u8]) -> bool {
    let deleted_by = Cursor::new(tuple.get(4..).unwrap_or_default()).u32();
    let infomask = Cursor::new(tuple.get(20..).unwrap_or_default()).u16();
    deleted_by == Some(0) || infomask.is_some_and(|flags| flags & 0x0800 != 0)
}

/// Reads oid and name of a row of `pg_namespace` or `pg_database`.
#[must_use]
pub fn named_row(tuple: &[u8]) -> Option<(u32, String)> {
    Some((oid(tuple, 0)?, name(tuple, 4)?))
}

/// Reads `pg_filenode.map`: which file holds which mapped catalog, as (oid, relfilenode).
#[must_use]
pub fn relation_map(bytes: &[u8]) -> Option<Vec<(u32, u32)>> {
    const MAGIC: u32 = 0x0059_2717;
    let mut from = Cursor::new(bytes);
    if from.u32()? != MAGIC {
        return None;
    }
    let count = from.u32()?;
    if count > 64 {
        return None;
    }
    (0..count).map(|_| Some((from.u32()?, from.u32()?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::page::PAGE_SIZE_DEFAULT;

    /// The first pages of a catalog written by a server, `pg_aggregate`.
    const RELATION: &[u8] = include_bytes!("../testdata/relation");

    #[test]
    fn reads_a_servers_own_pages() {
        let page = &RELATION[..PAGE_SIZE_DEFAULT];
        let rows: Vec<_> = tuples(page).collect();
        assert_eq!(rows.len(), 80);
        assert_eq!((rows[0].0, rows[0].1.len()), (1, 96));
        assert_eq!(rows[79].0, 80);
        assert!(rows.iter().all(|(_, tuple)| is_current(tuple)));
        // Its first column is an oid as that of pg_class is: aggregates begin at 2100.
        assert_eq!(oid(rows[0].1, 0), Some(2100));
    }

    #[test]
    fn reads_a_row_of_pg_class() {
        let mut tuple = vec![0; TUPLE_HEADER + 9];
        tuple[22] = 32;
        for value in [16_400u32.to_le_bytes().to_vec(), b"items".to_vec(), vec![0; 59]] {
            tuple.extend(value);
        }
        for value in [2200u32, 0, 0, 10, 2, 16_405, 0, 7] {
            tuple.extend(value.to_le_bytes());
        }
        tuple.extend(1000f32.to_le_bytes());
        tuple.extend([0; 11]);
        tuple.extend(*b"r...r");
        let row = class_row(&tuple, 15).unwrap();
        let expected = ClassRow {
            oid: 16_400,
            name: "items".into(),
            namespace: 2200,
            relfilenode: 16_405,
            kind: 'r',
            rows: Some(1000),
        };
        assert_eq!(row, expected);
        assert_eq!(class_row(&tuple[..100], 15), None);
    }

    #[test]
    fn an_update_leans_on_the_row_before() {
        let mut old = vec![0; TUPLE_HEADER + 1];
        old[22] = 24;
        old.extend(b"one two three");
        let mut bytes = vec![1, 0, 0, 0, 24, 0];
        bytes.extend(b"2");
        let tuple = assemble(&bytes, 4, 6, &old).unwrap();
        assert_eq!(&tuple[24..], b"one 2 three");
        assert_eq!(assemble(&bytes, 4, 60, &old), None);
    }

    #[test]
    fn an_update_of_pg_class_tells_the_new_file() {
        let update = |now| ClassFileUpdate { oid: None, before: None, now };
        let low = update([Some(9), None, None, None]);
        assert_eq!(low.successor(0x4005), Some(0x4009));
        assert_eq!(low.successor(0x4009), None, "no other file");
        assert_eq!(low.stands_alone(), None);
        let whole = update([Some(9), Some(0x40), Some(0), Some(0)]);
        assert_eq!(whole.stands_alone(), Some(0x4009));
        let known = ClassFileUpdate { before: Some(0x4005), ..whole };
        assert_eq!(known.successor(0x4006), None);
        assert_eq!(known.successor(0x4005), Some(0x4009));
    }

    #[test]
    fn an_index_page_keeps_something_at_its_end() {
        assert!(!is_index_page(&RELATION[..PAGE_SIZE_DEFAULT]));
        let mut page = RELATION[..PAGE_SIZE_DEFAULT].to_vec();
        page[16..18].copy_from_slice(&8176u16.to_le_bytes());
        assert!(is_index_page(&page));
        assert!(!is_index_page(&[]));
    }

    #[test]
    fn reads_a_relation_map() {
        let mut map = 0x0059_2717u32.to_le_bytes().to_vec();
        for number in [2u32, 1259, 1259, 1249, 16_500] {
            map.extend(number.to_le_bytes());
        }
        assert_eq!(relation_map(&map), Some(vec![(1259, 1259), (1249, 16_500)]));
        assert_eq!(relation_map(&map[..20]), None);
        assert_eq!(relation_map(&[0; 512]), None);
    }

    proptest! {
        #[test]
        fn random_pages_never_panic(page: Vec<u8>) {
            for (_, tuple) in tuples(&page) {
                let _ = (class_row(tuple, 15), named_row(tuple));
            }
            let _ = relation_map(&page);
        }

        #[test]
        fn random_rows_never_panic(bytes: Vec<u8>, prefix in 0usize..99, suffix in 0usize..99, old: Vec<u8>) {
            let _ = assemble(&bytes, prefix, suffix, &old);
        }
    }
}
