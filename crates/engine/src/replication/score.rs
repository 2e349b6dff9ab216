//! How much would have to be lost for everything to be lost: three copies, on two media, one off-site, one
//! that nobody can change, no errors.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast_repository::{LockMode, RepositoryUrl, Store, StoreLock};
use serde::{Deserialize, Serialize};

use super::{Lag, ReplicaState};
use crate::Engine;
use crate::error::Result;
use crate::verify::checks_of;

/// A replica that is further behind is not counted as a copy.
const FRESH_SECONDS: u64 = 3600;
/// How long a store is waited for that is asked for its locks.
const PATIENCE: Duration = Duration::from_secs(10);

/// The 3-2-1-1-0 of a cluster's backups. The database itself is not counted: it is what may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Score {
    /// The repository, and each replica that answers and is behind by an hour at most.
    #[ts(type = "number")]
    pub copies: u64,
    /// Buckets and file systems that these are on.
    #[ts(type = "number")]
    pub media: u64,
    /// How many of them are in an object store.
    #[ts(type = "number")]
    pub off_site: u64,
    /// How many of them are in a bucket whose rule lets nobody change what was put for a while; null when that is
    /// not known of any.
    #[ts(type = "number | null")]
    pub immutable: Option<u64>,
    /// Snapshots that the newest verification of each found damaged.
    #[ts(type = "number")]
    pub errors: u64,
}

impl Engine {
    /// The score of a cluster with the replicas that [`Engine::replicas`] has told of.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn replication_score(&self, name: &str, replicas: &[ReplicaState]) -> Result<Score> {
        let cluster = self.cluster(name).await?;
        let (summary, repository) = self.repository_by_id(cluster.repository).await?;
        let checks = checks_of(self.catalog(), &repository, cluster.id).await?;
        let errors = checks.values().filter(|check| !check.ok).count() as u64;
        let fresh = |lag: &Lag| lag.seconds <= FRESH_SECONDS;
        let copies = std::iter::once(summary.url.as_str()).chain(
            replicas.iter().filter(|r| r.lag.as_ref().is_some_and(fresh)).map(|r| r.url.as_str()),
        );
        let locks =
            futures_util::future::join_all(copies.clone().map(str::to_owned).map(lock_of)).await;
        Ok(Score { immutable: immutable(&locks), ..score_of(copies, errors) })
    }
}

/// What the store of a copy says of its locks; it is not waited for.
async fn lock_of(url: String) -> StoreLock {
    let asked = async {
        let store = Store::open(&RepositoryUrl::parse(&url)?).await?;
        store.lock_rule().await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(lock)) => lock,
        Ok(Err(error)) => {
            tracing::info!(url, %error, "the store cannot be asked for its locks");
            StoreLock::Unknown
        }
        Err(_) => StoreLock::Unknown,
    }
}

fn immutable(locks: &[StoreLock]) -> Option<u64> {
    let count = |wanted: fn(&StoreLock) -> bool| locks.iter().filter(|lock| wanted(lock)).count();
    // Governance can be ended by some.
    let strict =
        |lock: &StoreLock| matches!(lock, StoreLock::Rule { mode: LockMode::Compliance, .. });
    let locked = count(strict);
    let unknown = count(|lock| *lock == StoreLock::Unknown);
    (locked > 0 || unknown == 0).then_some(locked as u64)
}

fn score_of<'a>(copies: impl Iterator<Item = &'a str>, errors: u64) -> Score {
    let mut score = Score { copies: 0, media: 0, off_site: 0, immutable: None, errors };
    let mut media = BTreeSet::new();
    for url in copies {
        score.copies += 1;
        let Ok(parsed) = RepositoryUrl::parse(url) else { continue };
        if parsed.local_path().is_none() {
            score.off_site += 1;
        }
        media.insert(medium_of(&parsed));
    }
    score.media = media.len() as u64;
    score
}

/// What is lost at once: a bucket, or the file system that a folder is on.
fn medium_of(url: &RepositoryUrl) -> String {
    let Some(path) = url.local_path() else {
        return url.to_string().splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if let Ok(found) = std::fs::metadata(path) {
            return format!("device {}", found.dev());
        }
    }
    path.ancestors().last().unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_at_once_counts_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let [one, other] = ["one", "other"].map(|name| {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).expect("a directory");
            path.display().to_string()
        });
        let copies = [one.as_str(), &other, "s3://backups/a", "s3://backups/b", "gs://backups"];
        let score = score_of(copies.into_iter(), 2);
        let expected = Score { copies: 5, media: 3, off_site: 3, immutable: None, errors: 2 };
        assert_eq!(score, expected);
    }

    #[test]
    fn what_is_not_known_is_not_counted_as_none() {
        let rule = StoreLock::Rule { mode: LockMode::Compliance, days: 30 };
        assert_eq!(immutable(&[StoreLock::None, StoreLock::NoRule]), Some(0));
        assert_eq!(immutable(&[StoreLock::None, StoreLock::Unknown]), None);
        assert_eq!(immutable(&[StoreLock::Unknown, rule, rule]), Some(2));
    }
}
