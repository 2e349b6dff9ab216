//! Tablespaces of a copy: inside its data directory, or where the operator says; never where the source
//! has them.
//!
//! The backup's own tablespaces are placed by the fetch. One that is made in the replayed WAL would be
//! linked to the very path that the source uses (`tblspc_redo` in PostgreSQL's `tablespace.c`): on the
//! source's machine the copy would write into the source's files. Its record is therefore served with an
//! empty path, which makes the tablespace a directory inside `pg_tblspc` (PostgreSQL 15, and 14.5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use holdfast_postgres::{
    Lsn, RecordSpan, SegmentNo, WalExpectations, WalSegmentSize, WalStreamReader,
};
use holdfast_repository::{EntryKind, Repository};

use crate::archive::{ArchiveView, Leg};
use crate::error::{EngineError, Result};
use crate::server::binaries::ServerBinaries;
use crate::snapshot::Snapshot;

/// A byte of WAL that is served instead of the archived one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patch {
    /// Where it stands.
    pub(crate) at: Lsn,
    /// What is served there.
    pub(crate) byte: u8,
}

/// Whether a server can have tablespaces inside `pg_tblspc` (`allow_in_place_tablespaces`).
pub(super) fn can_be_inside(binaries: &ServerBinaries) -> bool {
    (binaries.major, binaries.minor()) >= (14, 5)
}

/// The oids of a snapshot's tablespaces.
async fn oids(repository: &Repository, snapshot: &Snapshot) -> Result<BTreeSet<u32>> {
    let mut reader = repository.read_file_table(&snapshot.file_table).await?;
    let mut oids = BTreeSet::new();
    while let Some(entry) = reader.next().await? {
        if entry.kind != EntryKind::File
            && let Some(oid) = entry.path.strip_prefix("pg_tblspc/")
            && let Ok(oid) = oid.parse()
        {
            oids.insert(oid);
        }
    }
    Ok(oids)
}

/// Refuses a mapping that names no tablespace of the snapshot, or a directory that cannot be one's own.
/// `ours` says that what stands there was put there by an earlier run of the same restore.
///
/// # Errors
/// [`EngineError::Refused`] with what is wrong.
pub(super) async fn check(
    mapping: &BTreeMap<u32, PathBuf>,
    destination: &Path,
    repository: &Repository,
    snapshot: &Snapshot,
    ours: bool,
) -> Result<()> {
    if mapping.is_empty() {
        return Ok(());
    }
    let there = oids(repository, snapshot).await?;
    let unusable = |message: String, hint: &str| {
        Err(EngineError::refused("tablespace_unusable", message, hint))
    };
    for (oid, directory) in mapping {
        if !there.contains(oid) {
            let list: Vec<_> = there.iter().map(ToString::to_string).collect();
            return unusable(
                format!("the backup has no tablespace {oid}"),
                &format!(
                    "It has {}.",
                    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
                ),
            );
        }
        let others = mapping.iter().filter(|(o, _)| *o != oid).map(|(_, d)| d.as_path());
        for other in others.chain([destination]) {
            if directory.starts_with(other) || other.starts_with(directory) {
                return unusable(
                    format!("{} and {} lie in each other", directory.display(), other.display()),
                    "Give every tablespace a directory of its own, outside of the data directory. Without --tablespace \
                     it is placed inside.",
                );
            }
        }
        let empty = match std::fs::read_dir(directory) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => !directory.is_symlink(),
            Err(e) => return Err(EngineError::file("read", directory)(e)),
        };
        if !empty && !ours {
            return unusable(
                format!("{} is not empty", directory.display()),
                "A tablespace is restored into a directory that is absent or empty: what stands there may be in use by \
                 another server.",
            );
        }
    }
    Ok(())
}

/// What must be served otherwise than it is archived, so that tablespaces made on the way from the
/// snapshot to `end` stay inside the copy.
///
/// # Errors
/// Refused where the server cannot do it, naming the last point that needs none of it.
pub(super) async fn patches(
    repository: &Repository,
    view: &ArchiveView,
    legs: &[Leg],
    snapshot: &Snapshot,
    end: Lsn,
    binaries: Option<&ServerBinaries>,
) -> Result<Vec<Patch>> {
    let made = view.tablespaces_made(legs, snapshot.start_lsn, end);
    let Some((first, path)) = made.first() else { return Ok(Vec::new()) };
    if let Some(b) = binaries
        && !can_be_inside(b)
    {
        return Err(EngineError::Refused {
            code: "tablespace_made_since",
            message: format!(
                "a tablespace was made at {path} after the backup began (at {first}), and PostgreSQL {} would write there",
                b.version
            ),
            hint: format!(
                "Update PostgreSQL {} on this machine, or take a new backup. From this one everything before {first} can be \
                 restored.",
                b.major
            ),
            details: serde_json::json!({
                "snapshot": snapshot.id, "lsn": first, "path": path,
                "nearest": [{ "target": format!("lsn:{first}"), "exclusive": true }],
            }),
        });
    }
    let mut patches = Vec::new();
    for (at, path) in &made {
        let found = read_record(repository, view, legs, *at).await?;
        let patched = found.and_then(|(span, raw)| emptied(span, &raw, view.segment_size));
        patches.extend(patched.ok_or_else(|| {
            EngineError::integrity(
                "wal_record_undecodable",
                format!("the record at {at} that makes a tablespace at {path} cannot be read"),
                "Points after it cannot be restored from this copy of the repository.",
            )
        })?);
    }
    Ok(patches)
}

/// One record with its header, as it is archived.
async fn read_record(
    repository: &Repository,
    view: &ArchiveView,
    legs: &[Leg],
    at: Lsn,
) -> Result<Option<(RecordSpan, Vec<u8>)>> {
    let size = view.segment_size;
    let mut segment = size.segment_of(at);
    let mut reader =
        WalStreamReader::new(size.start_of(segment), size, WAL_BLOCK, WalExpectations::default());
    let mut bytes = Vec::new();
    let begin = size.start_of(segment);
    // A record that crosses into a segment ends in it, or in the next.
    for _ in 0..2 {
        let Some(stored) =
            view.file_for(legs, segment).and_then(|f| view.segment(f.timeline, segment))
        else {
            break;
        };
        let more = view.read_segment(repository, stored).await?;
        let mut records = Vec::new();
        let read = reader.push(&more, &mut records);
        bytes.extend_from_slice(&more);
        if let Some(record) = records.iter().find(|r| r.span.start == at) {
            let raw = places(at, record.length(), size)
                .map(|lsn| bytes.get(usize::try_from(lsn.distance_from(begin)).ok()?).copied())
                .collect::<Option<Vec<u8>>>();
            return Ok(raw.map(|raw| (record.span, raw)));
        }
        if read.is_err() {
            break;
        }
        segment = SegmentNo(segment.0 + 1);
    }
    Ok(None)
}

/// Bytes of a WAL page.
const WAL_BLOCK: u32 = 8192;
/// Bytes of a page's header (`XLogPageHeaderData`).
const PAGE_HEADER: u64 = 24;
/// Bytes of the header of a segment's first page (`XLogLongPageHeaderData`).
const SEGMENT_HEADER: u64 = 40;
/// Bytes of a record's header (`XLogRecord`); its last four are the checksum.
const RECORD_HEADER: usize = 24;
/// The byte that announces a record's own data of less than 256 bytes (`XLR_BLOCK_ID_DATA_SHORT`).
const DATA_SHORT: u8 = 255;
/// The byte that announces longer data (`XLR_BLOCK_ID_DATA_LONG`).
const DATA_LONG: u8 = 254;

/// Where the bytes of a record stand that begins at `start`: a record goes on behind each page's header.
fn places(start: Lsn, length: usize, size: WalSegmentSize) -> impl Iterator<Item = Lsn> {
    let mut at = start;
    std::iter::repeat_with(move || {
        if at.0.is_multiple_of(u64::from(WAL_BLOCK)) {
            let first = at == size.start_of(size.segment_of(at));
            at = Lsn(at.0 + if first { SEGMENT_HEADER } else { PAGE_HEADER });
        }
        let here = at;
        at = Lsn(at.0 + 1);
        here
    })
    .take(length)
}

/// The bytes that give a record that makes a tablespace an empty path, and the checksum that it then has.
/// `xl_tblspc_create_rec` is the oid and the path, which ends with a zero byte; its record has no blocks.
fn emptied(span: RecordSpan, raw: &[u8], size: WalSegmentSize) -> Option<Vec<Patch>> {
    let path = RECORD_HEADER
        + match *raw.get(RECORD_HEADER)? {
            DATA_SHORT => 2,
            DATA_LONG => 5,
            _ => return None,
        }
        + 4;
    let mut changed = raw.to_vec();
    *changed.get_mut(path)? = 0;
    // The checksum covers the data first, then the header before itself (`ValidXLogRecord`).
    let crc =
        crc32c::crc32c_append(crc32c::crc32c(changed.get(RECORD_HEADER..)?), changed.get(..20)?);
    changed.get_mut(20..RECORD_HEADER)?.copy_from_slice(&crc.to_le_bytes());
    let differing = places(span.start, raw.len(), size).zip(raw.iter().zip(&changed));
    Some(
        differing
            .filter(|(_, (old, new))| old != new)
            .map(|(at, (_, new))| Patch { at, byte: *new })
            .collect(),
    )
}

/// Puts the patches of a segment into its content.
pub(super) fn apply(patches: &[Patch], start: Lsn, content: &mut [u8]) {
    for patch in patches {
        if let Some(offset) = patch.at.0.checked_sub(start.0)
            && let Ok(offset) = usize::try_from(offset)
            && let Some(byte) = content.get_mut(offset)
        {
            *byte = patch.byte;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_goes_on_behind_the_headers_of_pages() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let page = u64::from(WAL_BLOCK);
        let at: Vec<_> =
            places(Lsn((1 << 20) + page - 2), 4, size).map(|l| l.0 - (1 << 20)).collect();
        assert_eq!(at, [page - 2, page - 1, page + PAGE_HEADER, page + PAGE_HEADER + 1]);
        let at: Vec<_> = places(Lsn((2 << 20) - 1), 2, size).map(|l| l.0).collect();
        assert_eq!(at, [(2 << 20) - 1, (2 << 20) + SEGMENT_HEADER]);
    }

    #[test]
    fn an_emptied_record_has_a_checksum_of_its_own() {
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let mut raw = vec![7_u8; RECORD_HEADER];
        raw.extend([DATA_SHORT, 9, 1, 64, 0, 0, b'/', b's', b'r', b'v', 0]);
        let start = Lsn((1 << 20) + u64::from(WAL_BLOCK) - 8);
        let span = RecordSpan { start, end: Lsn(start.0 + 96) };
        let patches = emptied(span, &raw, size).unwrap();
        // Over the archived bytes, page headers and all, they make the record that is wanted.
        let mut wal = vec![0_u8; 2 * WAL_BLOCK as usize];
        let offset = |lsn: Lsn| usize::try_from(lsn.0 - (1 << 20)).unwrap();
        for (lsn, byte) in places(start, raw.len(), size).zip(&raw) {
            wal[offset(lsn)] = *byte;
        }
        apply(&patches, Lsn(1 << 20), &mut wal);
        let served: Vec<_> = places(start, raw.len(), size).map(|lsn| wal[offset(lsn)]).collect();
        assert_eq!(served[RECORD_HEADER + 6], 0);
        assert_eq!(served[RECORD_HEADER + 7..], raw[RECORD_HEADER + 7..]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&served[RECORD_HEADER..]), &served[..20]);
        assert_eq!(served[20..24], crc.to_le_bytes());
        assert!(emptied(span, &raw[..RECORD_HEADER], size).is_none());
    }
}
