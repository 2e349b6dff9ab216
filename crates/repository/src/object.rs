//! What objects there are.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::lease::LEASES_PREFIX;
use crate::store::PROBE_PREFIX;
use crate::verify::in_folder;

/// What an object is; the number stands in its header and in its signature.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ObjectKind {
    /// Extents of snapshots.
    Pack = 1,
    /// Directories of packs.
    Index = 2,
    /// The files of one snapshot.
    FileTable = 3,
    /// A snapshot's manifest.
    Snapshot = 4,
    /// A sealed WAL segment.
    WalSegment = 5,
    /// A part of an open WAL segment.
    WalSlice = 6,
    /// A timeline history file.
    TimelineHistory = 7,
    /// What WAL is there, and its index of events.
    Coverage = 8,
    /// The outcome of a drill.
    Proof = 9,
    /// A cluster's description.
    Cluster = 10,
    /// Schedules, rosters.
    Policy = 11,
    /// A recorded incident.
    Incident = 12,
    /// An entry of the audit log.
    Audit = 13,
    /// A mark for later deletion.
    Tombstone = 14,
    /// A lease.
    Lease = 15,
    /// What a bundle is to hold.
    Bundle = 16,
}

impl ObjectKind {
    /// The number in the header.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Pack,
            2 => Self::Index,
            3 => Self::FileTable,
            4 => Self::Snapshot,
            5 => Self::WalSegment,
            6 => Self::WalSlice,
            7 => Self::TimelineHistory,
            8 => Self::Coverage,
            9 => Self::Proof,
            10 => Self::Cluster,
            11 => Self::Policy,
            12 => Self::Incident,
            13 => Self::Audit,
            14 => Self::Tombstone,
            15 => Self::Lease,
            16 => Self::Bundle,
            _ => return None,
        })
    }

    /// What cannot be done while an object of this kind is missing or damaged.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Pack => "snapshots that use its extents cannot be restored",
            Self::Index => {
                "the packs it names are found only by reading each of them, and are not shared with \
                 new snapshots"
            }
            Self::FileTable | Self::Snapshot => "the snapshot it describes cannot be restored",
            Self::WalSegment => "no recovery can pass through this part of the log",
            Self::WalSlice => "the newest moments of the log cannot be recovered",
            Self::TimelineHistory => "recovery across this change of timeline is not possible",
            Self::Coverage => "the log it describes has to be read again to find points in it",
            Self::Proof => "a proof of recoverability is lost; the drill has to be run again",
            Self::Cluster => "the cluster's description has to be entered again",
            Self::Policy => "a schedule or a roster is lost",
            Self::Incident => "the record of an incident is lost",
            Self::Audit => "the audit log has a hole",
            Self::Tombstone => "objects marked for deletion stay where they are",
            Self::Lease => "a job that holds it has to take it again",
            Self::Bundle => "whether everything is in the bundle cannot be told",
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pack => "pack",
            Self::Index => "index",
            Self::FileTable => "file table",
            Self::Snapshot => "snapshot",
            Self::WalSegment => "WAL segment",
            Self::WalSlice => "WAL slice",
            Self::TimelineHistory => "timeline history",
            Self::Coverage => "coverage",
            Self::Proof => "proof",
            Self::Cluster => "cluster",
            Self::Policy => "policy",
            Self::Incident => "incident",
            Self::Audit => "audit entry",
            Self::Tombstone => "tombstone",
            Self::Lease => "lease",
            Self::Bundle => "bundle",
        })
    }
}

/// Whether an object may replace an earlier one of the same name.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum PutKind {
    /// Put if absent.
    CreateOnly,
    /// Put in any case.
    Replace,
}

/// Whether an object of this name lives for hours at most and belongs to its store alone: a lease, a probe. It is
/// neither copied nor kept from being removed.
pub fn is_transient(path: &str) -> bool {
    [LEASES_PREFIX, PROBE_PREFIX].iter().any(|folder| in_folder(path, folder))
}

/// What a write cost.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct PutReceipt {
    /// Size of the stored object in bytes.
    pub bytes_stored: u64,
}

/// One listed object.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct ObjectEntry {
    /// Path inside the repository.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock.
    pub modified: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip() {
        let kinds: Vec<_> = (0..=255).filter_map(ObjectKind::from_code).collect();
        assert_eq!(kinds.len(), 16);
        assert!(kinds.iter().all(|kind| ObjectKind::from_code(kind.code()) == Some(*kind)));
    }
}
