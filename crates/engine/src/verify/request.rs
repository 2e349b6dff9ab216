//! What is asked of a verification, and what it therefore reads.

use std::collections::HashSet;

use holdfast_postgres::{Lsn, SegmentNo, TimelineId};
use holdfast_repository::{ObjectEntry, Repository};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Checked, Skipped, VerifyResult, is_damage};
use crate::archive::{segment_path, slice_directory};
use crate::error::{EngineError, Result};
use crate::snapshot::Snapshot;
use crate::snapshot::contents::{Packs, packs_of};

/// How deep to look; each depth contains those before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ts_rs::TS,
)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Names, signatures, references.
    Structure,
    /// Every byte.
    #[default]
    Data,
    /// Every file of every snapshot, put together and compared with what the server said it sent.
    Cluster,
    /// Their pages and control files, and the WAL record by record.
    Pages,
}

impl Depth {
    fn as_str(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Data => "data",
            Self::Cluster => "cluster",
            Self::Pages => "pages",
        }
    }

    /// What a verification of this depth does not show, the next depth's part first.
    fn not_shown(self) -> Vec<String> {
        let steps = [
            (Self::Data, "that stored content can be decrypted and is what its names say"),
            (Self::Cluster, "that the files of a snapshot are those that the server sent"),
            (
                Self::Pages,
                "that the server's pages were sound when they were copied, and that its WAL can be read",
            ),
        ];
        let beyond = [
            "that a server starts from it and replays to a target: a restore shows that",
            "that another copy of the repository is as good as this one",
        ];
        let deeper = steps.into_iter().filter(|(depth, _)| *depth > self).map(|(_, what)| what);
        deeper.chain(beyond).map(ToOwned::to_owned).collect()
    }
}

impl std::fmt::Display for Depth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Depth {
    type Err = EngineError;
    fn from_str(text: &str) -> Result<Self> {
        [Self::Structure, Self::Data, Self::Cluster, Self::Pages]
            .into_iter()
            .find(|depth| depth.as_str() == text)
            .ok_or_else(|| {
                EngineError::usage(
                    format!("{text:?} is no level"),
                    "Use structure, data, cluster or pages.",
                )
            })
    }
}

/// Most parts that a verification can be divided into.
const MOST_PARTS: u32 = 10_000;

/// One of so many equal parts of what is stored: those with the numbers 1 to `of` together are all of it,
/// and none is in two of them. Which part an object belongs to never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    part: u32,
    of: u32,
}

impl Sample {
    /// Whether what is called `name` is in this part.
    pub(super) fn takes(self, name: &str) -> bool {
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
        u64::from_le_bytes(first) % u64::from(self.of) == u64::from(self.part - 1)
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

impl std::str::FromStr for Sample {
    type Err = EngineError;
    fn from_str(text: &str) -> Result<Self> {
        text.split_once('/')
            .and_then(|(part, of)| Some(Self { part: part.parse().ok()?, of: of.parse().ok()? }))
            .filter(|sample| sample.part >= 1 && sample.part <= sample.of && sample.of <= MOST_PARTS)
            .ok_or_else(|| {
                EngineError::usage(
                    format!("{text:?} is no part of a whole"),
                    format!(
                        "Write which part of how many, such as 1/7 on Monday and 2/7 on Tuesday: N/M with N from 1 to M, \
                         M at most {MOST_PARTS}."
                    ),
                )
            })
    }
}

/// What is to be verified.
#[derive(Debug, Clone, Default)]
pub struct VerifyRequest {
    /// The cluster whose snapshots are judged; its whole repository is read. None for the only repository.
    pub cluster: Option<String>,
    /// How deep.
    pub depth: Depth,
    /// Only one part of the packs, the WAL and the files.
    pub sample: Option<Sample>,
    /// Only this snapshot, and of packs and WAL only what it needs.
    pub snapshot: Option<Uuid>,
    /// Keep no outcome in the repository.
    pub leave_untouched: bool,
}

impl VerifyRequest {
    pub(super) fn title(&self) -> String {
        match self.depth {
            Depth::Data => "Verify".to_owned(),
            depth => format!("Verify ({depth})"),
        }
    }

    /// The result before anything was looked at.
    pub(super) fn blank(&self) -> VerifyResult {
        VerifyResult {
            ok: false,
            level: self.depth,
            sample: self.sample.map(|sample| sample.to_string()),
            checked: Checked::default(),
            skipped: Skipped::default(),
            snapshots: Vec::new(),
            findings: Vec::new(),
            not_shown: self.depth.not_shown(),
        }
    }
}

/// What a verification reads.
pub(super) struct Scope {
    sample: Option<Sample>,
    only: Option<Only>,
}

/// One snapshot and what it needs.
struct Only {
    snapshot: Snapshot,
    packs: HashSet<String>,
    wal: Vec<String>,
}

impl Scope {
    pub(super) fn new(sample: Option<Sample>) -> Self {
        Self { sample, only: None }
    }

    /// One snapshot with its packs. One whose list of files is damaged needs none that could be named: that
    /// damage is found when the list itself is read.
    ///
    /// # Errors
    /// When the store cannot be reached: what is not known to be needed would pass unread.
    pub(super) async fn of_snapshot(
        repository: &Repository,
        sample: Option<Sample>,
        snapshot: Snapshot,
    ) -> Result<Self> {
        let packs = match packs_of(repository, &snapshot).await {
            Ok(packs) => packs,
            Err(problem) if is_damage(&problem) => Packs::default(),
            Err(problem) => return Err(problem),
        };
        let packs = packs.found.into_iter().map(|pack| pack.path()).collect();
        let only = Only { packs, wal: wal_of(&snapshot), snapshot };
        Ok(Self { sample, only: Some(only) })
    }

    /// Whether an object is read. Only packs and WAL are ever left out: all else is small, and tells what
    /// there must be.
    pub(super) fn reads(&self, entry: &ObjectEntry) -> bool {
        let path = entry.path.as_str();
        let needed = match &self.only {
            Some(only) if path.starts_with("packs/") => only.packs.contains(path),
            Some(only) if is_wal(path) => only.wal.iter().any(|needed| path.starts_with(needed)),
            _ => true,
        };
        let bulk = path.starts_with("packs/") || is_wal(path);
        needed && (!bulk || self.sample.is_none_or(|sample| sample.takes(path)))
    }

    /// Whether the outcome judges this snapshot.
    pub(super) fn judges(&self, snapshot: &Snapshot) -> bool {
        self.only.as_ref().is_none_or(|only| only.snapshot.id == snapshot.id)
    }

    /// Whether the records of a segment are read.
    pub(super) fn reads_wal(&self, timeline: TimelineId, start: Lsn, end: Lsn, path: &str) -> bool {
        self.only.as_ref().is_none_or(|only| {
            let own = &only.snapshot;
            own.timeline == timeline && start <= own.stop_lsn && end > own.start_lsn
        }) && self.sample.is_none_or(|sample| sample.takes(path))
    }

    /// Whether everything that the judged snapshots need is read.
    pub(super) fn is_whole(&self) -> bool {
        self.sample.is_none()
    }
}

fn is_wal(path: &str) -> bool {
    path.starts_with("wal/") || path.starts_with("slices/")
}

/// How the paths of the WAL begin without which a snapshot is not consistent.
pub(super) fn wal_of(snapshot: &Snapshot) -> Vec<String> {
    let size = snapshot.segment_size;
    let (system, timeline) = (snapshot.system_identifier, snapshot.timeline);
    let segments = size.segment_of(snapshot.start_lsn).0..=size.segment_of(snapshot.stop_lsn).0;
    segments
        .map(SegmentNo)
        .flat_map(|number| {
            [
                segment_path(system, timeline, number, size),
                slice_directory(system, timeline, number, size),
            ]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_together_are_everything_and_none_is_in_two() {
        let parts: Vec<Sample> = (1..=7).map(|n| format!("{n}/7").parse().unwrap()).collect();
        let mut sizes = [0; 7];
        for name in (0..7000).map(|n| format!("packs/ab/{n}")) {
            let taken: Vec<_> = (0..7).filter(|n| parts[*n].takes(&name)).collect();
            assert_eq!(taken.len(), 1, "{name}");
            sizes[taken[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (800..1200).contains(size)), "{sizes:?}");
        assert_eq!(parts[2].to_string(), "3/7");
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for text in ["", "1", "0/7", "8/7", "-1/7", "1/0", "1/1000000", "a/b", "1/7/2"] {
            assert!(text.parse::<Sample>().is_err(), "{text}");
        }
        assert!("1/1".parse::<Sample>().is_ok_and(|all| all.takes("anything")));
        assert!("vibes".parse::<Depth>().is_err());
    }

    #[test]
    fn the_deeper_it_looks_the_less_is_left() {
        let left: Vec<_> = [Depth::Structure, Depth::Data, Depth::Cluster, Depth::Pages]
            .map(|depth| depth.not_shown().len())
            .to_vec();
        assert_eq!(left, [5, 4, 3, 2]);
    }
}
