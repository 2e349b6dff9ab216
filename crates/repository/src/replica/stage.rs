//! In which order objects are copied: content before what refers to it.

use crate::documents::check_path;
use crate::file_table::{FILES_SUFFIX, SNAPSHOTS_PREFIX};
use crate::index::{INDEX_PREFIX, PACKS_PREFIX};
use crate::object::is_transient;
use crate::root::{KEYS_PREFIX, ROOT_PATH};
use crate::slots::parse_slot_path;
use crate::verify::in_folder;
use crate::writers::WRITERS_PREFIX;

/// Where parts of open WAL segments are; a sealed segment has the same path below `wal`.
const SLICES_PREFIX: &str = "slices";
/// WAL, parts first: what is sealed in between is listed as a whole.
pub(super) const WAL: [&str; 2] = [SLICES_PREFIX, "wal"];
/// What is listed before everything else, in this order. Listings take a while: what an object names is there
/// when it is listed after it.
pub(super) const FIRST: [&str; 6] =
    ["proofs", SNAPSHOTS_PREFIX, INDEX_PREFIX, "coverage", WAL[0], WAL[1]];

/// The steps, each done before the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// What opens the repository, and certifies who wrote the rest.
    Key,
    /// Packs, WAL, histories.
    Content,
    /// What names packs.
    Index,
    /// What names extents.
    Files,
    /// What makes a snapshot of all that.
    Snapshot,
    /// What tells of these.
    Record,
    /// `holdfast.json`: from now on there is a repository.
    Root,
}

impl Stage {
    /// Of the object at `path`; none of what belongs to its store alone: leases, probes, strangers.
    pub(super) fn of(path: &str) -> Option<Self> {
        if path == ROOT_PATH {
            return Some(Self::Root);
        }
        if in_folder(path, KEYS_PREFIX) {
            let known = parse_slot_path(path).is_some() || in_folder(path, WRITERS_PREFIX);
            return known.then_some(Self::Key);
        }
        if !path.contains('/') {
            return None;
        }
        if is_transient(path)
            || check_path(path).is_err()
            || path.split('/').any(|part| part.starts_with('.'))
        {
            return None;
        }
        let content = [PACKS_PREFIX, "wal", SLICES_PREFIX, "history"];
        Some(if content.iter().any(|folder| in_folder(path, folder)) {
            Self::Content
        } else if in_folder(path, INDEX_PREFIX) {
            Self::Index
        } else if in_folder(path, SNAPSHOTS_PREFIX) {
            if path.ends_with(FILES_SUFFIX) { Self::Files } else { Self::Snapshot }
        } else {
            Self::Record
        })
    }
}

/// Whether the object is part of an open WAL segment: it goes when the segment is sealed.
pub(super) fn is_slice(path: &str) -> bool {
    in_folder(path, SLICES_PREFIX)
}

/// Where the segment is, or the end of its timeline, that a slice is a part of.
pub(super) fn sealed_by(slice: &str) -> Option<[String; 2]> {
    let (segment, _) = slice.strip_prefix(SLICES_PREFIX)?.rsplit_once('/')?;
    Some([format!("wal{segment}"), format!("wal{segment}.partial")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_before_what_names_it() {
        let stages: Vec<_> = [
            "keys/writers/a.json",
            "packs/ab/abc",
            "index/1",
            "snapshots/c/1.files",
            "snapshots/c/1",
            "proofs/c/1",
            "holdfast.json",
        ]
        .into_iter()
        .map(|path| Stage::of(path).unwrap_or_else(|| panic!("{path} is copied")))
        .collect();
        assert!(stages.is_sorted_by(|a, b| a < b), "{stages:?}");
        for content in ["wal/1/00000001/a", "slices/1/00000001/a/0-1"] {
            assert_eq!(Stage::of(content), Some(Stage::Content), "{content}");
        }
        for own in [
            "leases/a/0000000000000001.json",
            "probe/1",
            "notes.txt",
            "keys/notes.txt",
            "a b",
            ".trash/packs",
        ] {
            assert_eq!(Stage::of(own), None, "{own}");
        }
    }

    #[test]
    fn a_slice_knows_its_segment() {
        let of = sealed_by("slices/7/00000001/000000010000000000000002/00000000-000000ff");
        let segment = "wal/7/00000001/000000010000000000000002";
        assert_eq!(of, Some([segment.to_owned(), format!("{segment}.partial")]));
        assert_eq!(sealed_by("wal/7/x"), None);
    }
}
