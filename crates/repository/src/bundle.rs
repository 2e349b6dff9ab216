//! Bundles: part of a repository in a folder or one tar file, which is a repository itself.
//!
//! Objects are authentic by themselves, under their own names, so that they are copied as they are; only the
//! index is written anew, of the packs that are there. Nothing stands under the bundle's own name before all of
//! it is durable.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::container::Suite;
use crate::error::{RepositoryError, Result};
use crate::index::{INDEX_PREFIX, IndexBody, PackId};
use crate::object::{ObjectEntry, ObjectKind};
use crate::repository::Repository;
use crate::store::Store;
use crate::url::RepositoryUrl;

/// Bytes that are in memory at a time.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes of a block of a tar file.
const BLOCK: usize = 512;
/// Packs that one index object names.
const PACKS_PER_INDEX: usize = 128;

/// What a bundle holds.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct BundleStats {
    /// Objects in it.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A bundle that is being written. Dropped before [`Bundle::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Bundle {
    to: PathBuf,
    /// Where it stands until it is whole.
    part: PathBuf,
    medium: Option<Medium>,
    stats: BundleStats,
}

#[derive(Debug)]
enum Medium {
    Folder(Store),
    /// Shared with the thread that writes.
    File(Arc<File>),
}

fn local(operation: &'static str) -> impl FnOnce(std::io::Error) -> RepositoryError {
    move |source| RepositoryError::LocalFile { operation, source }
}

/// Whether a bundle of this name is one file: when it ends in `.tar`.
fn is_file_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"))
}

impl Bundle {
    /// Begins one at `to`, which does not exist: a tar file when its name ends in `.tar`, else a folder.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`]; when it cannot be made there.
    pub async fn begin(to: &Path) -> Result<Self> {
        if std::fs::symlink_metadata(to).is_ok() {
            return Err(RepositoryError::AlreadyExists { path: to.display().to_string() });
        }
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", Uuid::new_v4().simple()));
        let part = to.with_file_name(name);
        let medium = if is_file_name(to) {
            let file = File::create_new(&part).map_err(local("create the bundle"))?;
            Medium::File(Arc::new(file))
        } else {
            std::fs::create_dir(&part).map_err(local("create the bundle"))?;
            Medium::Folder(Store::open(&RepositoryUrl::parse(&part.display().to_string())?).await?)
        };
        Ok(Self { to: to.to_owned(), part, medium: Some(medium), stats: BundleStats::default() })
    }

    /// Copies an object of `repository` as it is.
    ///
    /// # Errors
    /// What the store, or the disk, says.
    pub async fn copy(
        &mut self,
        repository: &Repository,
        entry: &ObjectEntry,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let from = repository.store();
        if cancel.is_cancelled() {
            return Err(RepositoryError::Cancelled);
        }
        if entry.size <= PIECE_BYTES {
            let bytes = from.get(&entry.path).await?;
            return self.put(&entry.path, bytes).await;
        }
        self.stats.objects += 1;
        self.stats.bytes += entry.size;
        let pieces = (0..entry.size.div_ceil(PIECE_BYTES)).map(|n| {
            let start = n * PIECE_BYTES;
            (start, PIECE_BYTES.min(entry.size - start))
        });
        match self.medium()? {
            Medium::Folder(store) => {
                let mut upload = store.begin_parts(&entry.path).await?;
                for (start, length) in pieces {
                    upload.part(from.get_range(&entry.path, start, length).await?).await?;
                }
                upload.complete().await
            }
            Medium::File(file) => {
                let file = Arc::clone(file);
                append(&file, header(&entry.path, entry.size)?).await?;
                for (start, length) in pieces {
                    append(&file, from.get_range(&entry.path, start, length).await?).await?;
                }
                append(&file, padding(entry.size)).await
            }
        }
    }

    /// Adds an object with these bytes.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn put(&mut self, path: &str, bytes: Bytes) -> Result<()> {
        let size = bytes.len() as u64;
        self.stats.objects += 1;
        self.stats.bytes += size;
        match self.medium()? {
            Medium::Folder(store) => store.put_new(path, bytes).await,
            Medium::File(file) => {
                let file = Arc::clone(file);
                append(&file, header(path, size)?).await?;
                append(&file, bytes).await?;
                append(&file, padding(size)).await
            }
        }
    }

    /// What is in it by now.
    pub fn stats(&self) -> BundleStats {
        self.stats
    }

    /// Makes what was written durable, and gives the store to read it back from before it gets its name.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn settle(&mut self) -> Result<Store> {
        match self.medium()? {
            Medium::Folder(store) => {
                store.settle("").await?;
            }
            Medium::File(file) => {
                let file = Arc::clone(file);
                // Two empty blocks end a tar file.
                append(&file, Bytes::from_static(&[0; 2 * BLOCK])).await?;
                blocking("sync the bundle", move || file.sync_all()).await?;
            }
        }
        Store::open(&RepositoryUrl::parse(&self.part.display().to_string())?).await
    }

    /// Gives it its name.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(mut self) -> Result<BundleStats> {
        // Somebody may have made one meanwhile.
        if std::fs::symlink_metadata(&self.to).is_ok() {
            return Err(RepositoryError::AlreadyExists { path: self.to.display().to_string() });
        }
        std::fs::rename(&self.part, &self.to).map_err(local("name the bundle"))?;
        self.medium = None;
        if cfg!(unix) {
            let folder = self.to.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))
                .and_then(|folder| folder.sync_all())
                .map_err(local("sync the bundle's folder"))?;
        }
        Ok(self.stats)
    }

    fn medium(&mut self) -> Result<&mut Medium> {
        self.medium.as_mut().ok_or(RepositoryError::Cancelled)
    }
}

/// The head of a member of a tar file; its bytes follow.
fn header(path: &str, size: u64) -> Result<Bytes> {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).map_err(local("name an object of the bundle"))?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(chrono::Utc::now().timestamp()).unwrap_or_default());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}

/// Members end where a block does.
fn padding(size: u64) -> Bytes {
    let used = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    Bytes::from_static(&[0; BLOCK]).slice(..(BLOCK - used) % BLOCK)
}

async fn append(file: &Arc<File>, bytes: Bytes) -> Result<()> {
    let file = Arc::clone(file);
    blocking("write the bundle", move || (&*file).write_all(&bytes)).await
}

async fn blocking(
    operation: &'static str,
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await.map_err(RepositoryError::worker)?;
    done.map_err(local(operation))
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if self.medium.take().is_none() {
            return;
        }
        let _gone = match std::fs::symlink_metadata(&self.part) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&self.part),
            _ => std::fs::remove_file(&self.part),
        };
    }
}

impl Repository {
    /// The objects that index these packs and no others, with their names.
    ///
    /// # Errors
    /// When a pack cannot be read.
    pub async fn index_of(&self, packs: &[PackId]) -> Result<Vec<(String, Bytes)>> {
        let mut objects = Vec::new();
        for group in packs.chunks(PACKS_PER_INDEX) {
            let mut directories = Vec::with_capacity(group.len());
            for pack in group {
                directories.push(self.read_pack_directory(*pack).await?);
            }
            let path = format!("{INDEX_PREFIX}/{}", Uuid::new_v4().simple());
            let body = IndexBody { packs: directories };
            let bytes =
                self.contain(&path, ObjectKind::Index, Suite::Empty, Vec::new(), &body).await?;
            objects.push((path, bytes));
        }
        Ok(objects)
    }

    /// The bytes of the document that [`Repository::put_document`] would store at `path`.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidArgument`] for a path that no object can have.
    pub async fn document<T: Serialize + ?Sized>(
        &self,
        path: &str,
        kind: ObjectKind,
        body: &T,
    ) -> Result<Bytes> {
        self.contain(path, kind, Suite::Empty, Vec::new(), body).await
    }
}
