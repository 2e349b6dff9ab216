//! What a backup may build on: the snapshots before it, and the files of the newest one. Of what changed little since,
//! only the difference is stored.

use holdfast_repository::{EntryKind, FileLookup, Repository};

use crate::Engine;
use crate::cluster::Cluster;
use crate::error::Result;
use crate::jobs::Reporter;
use crate::retention::tombstone;
use crate::snapshot::{self, Snapshot};

/// The snapshots of this cluster's server, newest first, without those that are going: nothing is built on them.
pub(super) async fn snapshots(
    engine: &Engine,
    cluster: &Cluster,
    repository: &Repository,
) -> Result<Vec<Snapshot>> {
    let marked = tombstone::marked_snapshots(engine.catalog(), repository).await?;
    let mut snapshots: Vec<Snapshot> = snapshot::list(engine.catalog(), repository, cluster)
        .await?
        .into_iter()
        .map(|(snapshot, _)| snapshot)
        .filter(|s| !marked.contains(&s.id) && s.system_identifier == cluster.system_identifier)
        .collect();
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.id));
    Ok(snapshots)
}

/// The files of the newest snapshot, where older content is at hand: in a repository on this machine that may be
/// read. None otherwise: a backup does without.
pub(super) async fn files(
    engine: &Engine,
    cluster: &Cluster,
    repository: &Repository,
    reporter: &Reporter,
) -> Option<FileLookup> {
    if !repository.can_read() || !repository.store().is_local() {
        return None;
    }
    match files_of_newest(engine, cluster, repository, reporter).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the files of the snapshot before cannot be read");
            reporter.log(format!("everything that changed is stored whole: {error}"));
            None
        }
    }
}

async fn files_of_newest(
    engine: &Engine,
    cluster: &Cluster,
    repository: &Repository,
    reporter: &Reporter,
) -> Result<Option<FileLookup>> {
    let snapshots = snapshots(engine, cluster, repository).await?;
    let Some(snapshot) = snapshots.first() else { return Ok(None) };
    let entries = snapshot.file_table.entries;
    reporter.phase("reading the previous snapshot's files", Some("files"), Some(entries));
    let files = repository
        .look_up_files(&snapshot.file_table, |entry| {
            entry.kind == EntryKind::File && !entry.extents.is_empty()
        })
        .await?;
    Ok(Some(files))
}
