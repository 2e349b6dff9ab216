//! The spool: a folder of this machine in which WAL is durable before the store has it.
//!
//! It holds the same sealed slices under the same names as the store, so that what a crash has left is
//! brought to the store as it is, without any key. A slice leaves the spool once the store has its WAL.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::PathBuf;

use holdfast_repository::{ObjectKind, Repository, RepositoryError, RepositoryUrl, Store};

use super::upload::Upload;
use super::{slices_prefix, wal_prefix};
use crate::cluster::Cluster;
use crate::error::{EngineError, Result};
use crate::home::Home;

/// The spool of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    store: Store,
    directory: PathBuf,
    /// The home directory.
    home: PathBuf,
}

/// The right to use a spool; given up when this is dropped, or its process ends.
#[derive(Debug)]
pub(super) struct Claim {
    #[allow(dead_code, reason = "held, not read")]
    lock: File,
}

impl Spool {
    /// The spool of a cluster on this machine; it need not exist yet.
    pub(super) async fn of(home: &Home, cluster: &Cluster) -> Result<Self> {
        let directory = home.root().join("spool").join(cluster.id.to_string());
        let url: RepositoryUrl =
            directory.display().to_string().parse().map_err(EngineError::from)?;
        Ok(Self { store: Store::open(&url).await?, directory, home: home.root().to_path_buf() })
    }

    /// Whether there ever was anything in it.
    pub(super) fn exists(&self) -> bool {
        self.directory.is_dir()
    }

    /// Claims the spool; none while another process uses it, which then looks after what is in it.
    pub(super) async fn claim(&self) -> Result<Option<Claim>> {
        let spool = self.clone();
        tokio::task::spawn_blocking(move || spool.lock())
            .await
            .map_err(|error| EngineError::Fault(format!("the spool was not claimed: {error}")))?
    }

    fn lock(&self) -> Result<Option<Claim>> {
        self.make().map_err(EngineError::file("create", &self.directory))?;
        let path = self.directory.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(EngineError::file("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Claim { lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(EngineError::file("lock", &path)(error)),
        }
    }

    /// Makes the folder so that a power cut leaves it, and with it what is synced inside. It is synced also
    /// where it was there: whoever made it may have died before.
    fn make(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        if cfg!(unix) {
            for folder in self.directory.ancestors().take_while(|f| f.starts_with(&self.home)) {
                File::open(folder)?.sync_all()?;
            }
        }
        Ok(())
    }

    /// Keeps a slice; durable when it returns.
    pub(super) async fn put(&self, repository: &Repository, upload: &Upload) -> Result<()> {
        let content = std::slice::from_ref(&upload.bytes);
        let sealed =
            repository.seal(&upload.path, ObjectKind::WalSlice, content, &upload.index).await?;
        Ok(self.store.put_replacing(&upload.path, sealed).await?)
    }

    /// Removes slices by name.
    pub(super) async fn remove(&self, paths: &[String]) {
        for path in paths {
            if let Err(error) = self.store.delete(path).await {
                tracing::warn!(%path, %error, "a spooled slice was left behind");
            }
        }
    }

    /// Removes what the store has now: every slice of the upload's segment that does not reach
    /// beyond it.
    pub(super) async fn forget(&self, upload: &Upload, directory: &str) {
        let listed = match self.store.list(directory).await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%directory, %error, "the spool could not be listed");
                return;
            }
        };
        let end = upload.index.segment_size.offset_in(upload.durable_to);
        let stored: Vec<_> = listed
            .into_iter()
            .map(|entry| entry.path)
            .filter(|path| upload.sealed || end_of(path).is_some_and(|to| to <= end))
            .collect();
        self.remove(&stored).await;
        if upload.sealed {
            self.store.remove_folder(directory).await;
        }
    }

    /// Brings what a crash has left to the store, and empties the spool. Gives how many slices.
    ///
    /// # Errors
    /// When the store cannot take it: then it stays, and nothing else may be done.
    pub(super) async fn replay(&self, repository: &Repository, cluster: &Cluster) -> Result<u64> {
        let prefix = slices_prefix(cluster.system_identifier);
        let mut brought = 0;
        let mut folders = BTreeSet::new();
        for entry in self.store.list(&prefix).await? {
            // Sealed since: the slice would only be litter.
            let segment = entry.path[prefix.len()..].rsplit_once('/').map_or("", |(s, _)| s);
            folders.insert(format!("{prefix}{segment}"));
            let whole = format!("{}{segment}", wal_prefix(cluster.system_identifier));
            let sealed = repository
                .get_sealed_metadata::<super::SegmentIndex>(&whole, ObjectKind::WalSegment)
                .await;
            match sealed {
                Ok(_) => {}
                Err(RepositoryError::NotFound { .. }) => {
                    let bytes = self.store.get(&entry.path).await?;
                    repository.store().put_replacing(&entry.path, bytes).await?;
                    brought += 1;
                }
                Err(error) => return Err(error.into()),
            }
            self.store.delete(&entry.path).await?;
        }
        for folder in folders {
            self.store.remove_folder(&folder).await;
        }
        Ok(brought)
    }
}

/// The offset at which a slice ends, from its name.
fn end_of(path: &str) -> Option<u64> {
    u64::from_str_radix(path.rsplit('/').next()?.split_once('-')?.1, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slices_name_tells_its_end() {
        assert_eq!(end_of("slices/1/00000001/x/00000010-000000ff"), Some(255));
        assert_eq!(end_of("slices/1/00000001/x"), None);
    }
}
