//! Tablespaces of a copy: inside its data directory, or where the operator says; never where the source
//! has them.
//!
//! The backup's own tablespaces are placed by the fetch. One that is made in the replayed WAL would be
//! linked to the very path that the source uses (`tblspc_redo` in PostgreSQL's `tablespace.c`): on the
//! source's machine the copy would write into the source's files. Its record is therefore served with an
//! empty path, which makes the tablespace a directory inside `pg_tblspc` (PostgreSQL 15, and 14.5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use holdfast_postgres::{Lsn, WalExpectations, WalPatch, WalStreamReader};
use holdfast_repository::{EntryKind, Repository};

use crate::archive::{ArchiveView, Leg};
use crate::error::{EngineError, Result};
use crate::server::binaries::ServerBinaries;
use crate::snapshot::Snapshot;

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
) -> Result<Vec<WalPatch>> {
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
        let major = snapshot.server_version.major();
        let inside = inside(repository, view, legs, *at, major).await?;
        patches.extend(inside.ok_or_else(|| {
            EngineError::integrity(
                "wal_record_undecodable",
                format!("the record at {at} that makes a tablespace at {path} cannot be read"),
                "Points after it cannot be restored from this copy of the repository.",
            )
        })?);
    }
    Ok(patches)
}

/// What is to be served of the record at `at`; none when it cannot be read.
async fn inside(
    repository: &Repository,
    view: &ArchiveView,
    legs: &[Leg],
    at: Lsn,
    major: u32,
) -> Result<Option<Vec<WalPatch>>> {
    let size = view.segment_size;
    let mut segment = size.segment_of(at);
    let begin = size.start_of(segment);
    let mut reader = WalStreamReader::at_segment(begin, size, WalExpectations::default());
    let mut wal = Vec::new();
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
        wal.extend_from_slice(&more);
        if let Some(record) = records.iter().find(|r| r.span.start == at) {
            return Ok(reader.wal_block_size().and_then(|block| {
                holdfast_postgres::tablespace_inside(record, major, &wal, begin, size, block)
            }));
        }
        if read.is_err() {
            break;
        }
        segment = segment.next();
    }
    Ok(None)
}

/// Puts the patches of a segment into its content.
pub(super) fn apply(patches: &[WalPatch], start: Lsn, content: &mut [u8]) {
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
    use super::*;

    #[test]
    fn a_patch_is_put_where_it_stands_and_nowhere_else() {
        let patches = [7, 16, 20].map(|at| WalPatch { at: Lsn(at), byte: 1 });
        let mut content = [0; 4];
        apply(&patches, Lsn(16), &mut content);
        assert_eq!(content, [1, 0, 0, 0]);
    }
}
