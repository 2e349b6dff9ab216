//! Bundles: one snapshot with the WAL behind it, in a folder or one file that needs no network, no server and no
//! catalog. A bundle is a repository: it is verified, attached and restored from like any other.

mod export;
mod offline;

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, TimelineId};
use holdfast_repository::{ObjectKind, Repository};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::archive::ArchiveView;
use crate::error::Result;

pub use export::{BundleRequest, BundleResult};
pub use offline::{OfflineRequest, verify_offline};

/// Where a bundle says what it is to hold.
pub(crate) const PREFIX: &str = "bundle/";

/// What a bundle is to hold: with it a bundle can be told from the rest of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BundleContents {
    /// The cluster.
    pub(crate) cluster: Uuid,
    /// Its name when the bundle was made.
    pub(crate) name: String,
    /// The snapshot.
    pub(crate) snapshot: Uuid,
    /// The timeline that its WAL leads to.
    pub(crate) timeline: TimelineId,
    /// Where the WAL begins.
    pub(crate) from_lsn: Lsn,
    /// Where it ends, at the earliest.
    pub(crate) to_lsn: Lsn,
    /// When it was made.
    pub(crate) made_at: DateTime<Utc>,
    /// The version of Holdfast that made it.
    pub(crate) made_by: String,
}

impl BundleContents {
    /// What a bundle says of itself, with where it says so. Nothing in any other repository.
    pub(crate) async fn of(repository: &Repository) -> Result<Vec<(String, Self)>> {
        let mut found = Vec::new();
        for entry in repository.list(PREFIX).await? {
            let contents = repository.get_document(&entry.path, ObjectKind::Bundle).await?;
            found.push((entry.path, contents));
        }
        Ok(found)
    }

    /// Where the manifest of its snapshot is.
    pub(crate) fn path(&self) -> String {
        format!("{}{}", crate::snapshot::prefix(self.cluster), self.snapshot)
    }

    /// What to say when that is not there.
    pub(crate) fn without_snapshot(&self) -> String {
        format!(
            "the bundle was made with the snapshot {} of \"{}\", which is missing: nothing can be restored from it",
            self.snapshot, self.name
        )
    }

    /// What to say when there is no document of its cluster.
    pub(crate) fn without_cluster(&self) -> String {
        format!(
            "the bundle was made of \"{}\", whose document is missing: its backups would not be found",
            self.name
        )
    }

    /// What of its WAL is not there.
    pub(crate) fn lacks(&self, view: &ArchiveView) -> Option<String> {
        let end = view
            .path(self.timeline)
            .map_or(Lsn::INVALID, |legs| view.reachable_from(&legs, self.from_lsn));
        (end < self.to_lsn).then(|| {
            format!(
                "the bundle was made with the WAL of \"{}\" from {} to {} on timeline {}; it can be followed to {end} only: \
                 part of the bundle is missing",
                self.name, self.from_lsn, self.to_lsn, self.timeline
            )
        })
    }
}
