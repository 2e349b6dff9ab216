//! The files of the snapshot before: of what changed little since, only the difference is stored.

use holdfast_repository::{EntryKind, FileLookup, Repository};

use crate::Engine;
use crate::cluster::Cluster;
use crate::error::Result;
use crate::jobs::Reporter;
use crate::retention::tombstone;
use crate::snapshot;

/// Finds them, where older content is at hand: in a repository on this machine that may be read. None otherwise:
/// a backup does without.
pub(super) async fn files_before(
    engine: &Engine,
    cluster: &Cluster,
    repository: &Repository,
    reporter: &Reporter,
) -> Option<FileLookup> {
    if !repository.can_read() || !repository.store().is_local() {
        return None;
    }
    match newest(engine, cluster, repository).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the files of the snapshot before cannot be read");
            reporter.log(format!("everything that changed is stored whole: {error}"));
            None
        }
    }
}

async fn newest(
    engine: &Engine,
    cluster: &Cluster,
    repository: &Repository,
) -> Result<Option<FileLookup>> {
    // Nothing is built on what is going.
    let marked = tombstone::marked_snapshots(engine.catalog(), repository).await?;
    let newest = snapshot::list(engine.catalog(), repository, cluster)
        .await?
        .into_iter()
        .map(|(snapshot, _)| snapshot)
        .filter(|s| !marked.contains(&s.id) && s.system_identifier == cluster.system_identifier)
        .max_by_key(|snapshot| snapshot.id);
    let Some(snapshot) = newest else { return Ok(None) };
    let files = repository
        .look_up_files(&snapshot.file_table, |entry| {
            entry.kind == EntryKind::File && !entry.extents.is_empty()
        })
        .await?;
    Ok(Some(files))
}
