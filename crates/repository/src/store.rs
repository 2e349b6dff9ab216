//! The object store under a repository: put-if-absent, ranged get, list, delete.

mod archive_file;
mod connect;
mod lock;
mod probe;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};

use crate::error::{RepositoryError, Result};
use crate::object::ObjectEntry;
use crate::url::RepositoryUrl;

use lock::BucketLocks;
pub use lock::{LockMode, ObjectLock, StoreLock};
pub(crate) use probe::PROBE_PREFIX;
pub use probe::StoreProbe;

/// Part size of a multipart upload: small enough for a slow line, at least S3's 5 MiB.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;
/// Objects above this size are uploaded in parts.
pub(crate) const SINGLE_PUT_BYTES: u64 = 16 * 1024 * 1024 + 1024 * 1024;
/// Objects that must not exist yet are put in one conditional request up to this size: multipart
/// uploads have no condition.
const CONDITIONAL_PUT_BYTES: u64 = 64 * 1024 * 1024;
const PARTS_IN_FLIGHT: usize = 2;
/// The longest object that is read whole: a WAL segment has at most 1 GiB.
const MAX_OBJECT_IN_MEMORY: u64 = 2 * 1024 * 1024 * 1024;

/// An object store and the prefix that the repository has in it. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    prefix: String,
    location: String,
}

enum Backend {
    Ready {
        store: Arc<dyn ObjectStore>,
        locks: Locks,
    },
    /// A local directory that may not exist yet: reading does not make it, writing does.
    Local {
        root: PathBuf,
        opened: OnceLock<Arc<dyn ObjectStore>>,
        /// Directories below it of which this process knows that a power cut leaves them.
        durable: Arc<Mutex<HashSet<PathBuf>>>,
    },
}

/// Who is asked whether objects are locked.
enum Locks {
    /// Nothing is ever locked here.
    Nothing,
    Bucket(Arc<BucketLocks>),
    /// Nobody: this kind of store is not asked.
    Unknown,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.inner.location)
    }
}

impl Store {
    /// Connects to what `url` names. Credentials and endpoints come from the environment: `AWS_*`,
    /// `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_*`; what is to hold for one S3 bucket alone has
    /// `HOLDFAST_S3_<BUCKET>_` in place of `AWS_`, the bucket's name in capitals with `_` for what is neither
    /// letter nor digit. A local directory need not exist yet.
    ///
    /// # Errors
    /// [`RepositoryError::InvalidUrl`] or [`RepositoryError::Unreachable`] when the configuration
    /// makes no sense; nothing is sent yet.
    pub async fn open(url: &RepositoryUrl) -> Result<Store> {
        let url = url.clone();
        let (backend, prefix) = tokio::task::spawn_blocking({
            let url = url.clone();
            move || connect::connect(&url)
        })
        .await
        .map_err(RepositoryError::worker)??;
        Ok(Store { inner: Arc::new(Inner { backend, prefix, location: url.to_string() }) })
    }

    /// On top of any store, with a prefix inside it (may be empty): for tests and decorators.
    pub fn from_object_store(store: Arc<dyn ObjectStore>, prefix: impl Into<String>) -> Store {
        let location = store.to_string();
        let prefix = prefix.into().trim_matches('/').to_owned();
        let backend = Backend::Ready { store, locks: Locks::Unknown };
        Store { inner: Arc::new(Inner { backend, prefix, location }) }
    }

    /// Where it is, without credentials.
    pub fn location(&self) -> &str {
        &self.inner.location
    }

    /// Whether it is on this machine's file systems: what is in it is at hand.
    pub fn is_local(&self) -> bool {
        matches!(self.inner.backend, Backend::Local { .. })
    }

    /// Tests what the store really honours, with a few small objects that are removed again.
    ///
    /// # Errors
    /// When the store cannot be reached at all; a missing property is an answer, not an error.
    pub async fn probe(&self) -> Result<StoreProbe> {
        probe::probe(self).await
    }

    /// Whether what is put is kept from being changed or removed. Costs one request to a bucket.
    ///
    /// # Errors
    /// When the store cannot be reached. What it does not say is [`StoreLock::Unknown`].
    pub async fn lock_rule(&self) -> Result<StoreLock> {
        match &self.inner.backend {
            Backend::Ready { locks: Locks::Bucket(locks), .. } => locks.rule().await,
            Backend::Ready { locks: Locks::Unknown, .. } => Ok(StoreLock::Unknown),
            Backend::Ready { locks: Locks::Nothing, .. } | Backend::Local { .. } => {
                Ok(StoreLock::None)
            }
        }
    }

    /// How an object is locked now; none where it is not, or the store is not asked.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] and what the store says.
    pub async fn lock_of(&self, path: &str) -> Result<Option<ObjectLock>> {
        match &self.inner.backend {
            Backend::Ready { locks: Locks::Bucket(locks), .. } => {
                locks.of_object(&self.full(path)).await
            }
            _ => Ok(None),
        }
    }

    /// Keeps an object locked for longer.
    ///
    /// # Errors
    /// [`RepositoryError::Permission`] where the credentials may not, and what else the store says; where
    /// locks are not known, that.
    pub async fn lock_until(&self, path: &str, lock: ObjectLock) -> Result<()> {
        match &self.inner.backend {
            Backend::Ready { locks: Locks::Bucket(locks), .. } => {
                locks.keep(&self.full(path), lock).await
            }
            _ => Err(RepositoryError::from_store(
                "keep for longer",
                path,
                object_store::Error::NotImplemented {
                    operation: "object lock".to_owned(),
                    implementer: self.inner.location.clone(),
                },
            )),
        }
    }

    fn full(&self, path: &str) -> Path {
        if self.inner.prefix.is_empty() {
            Path::from(path)
        } else if path.is_empty() {
            Path::from(self.inner.prefix.as_str())
        } else {
            Path::from(format!("{}/{path}", self.inner.prefix))
        }
    }

    fn readable(&self, path: &str) -> Result<Option<Arc<dyn ObjectStore>>> {
        match &self.inner.backend {
            Backend::Ready { store, .. } => Ok(Some(Arc::clone(store))),
            Backend::Local { root, opened, .. } => match opened.get() {
                Some(store) => Ok(Some(Arc::clone(store))),
                None if !root.exists() => Ok(None),
                None => {
                    let store = connect::local(root)
                        .map_err(|e| RepositoryError::from_store("open", path, e))?;
                    Ok(Some(Arc::clone(opened.get_or_init(|| store))))
                }
            },
        }
    }

    async fn writable(&self, path: &str) -> Result<Arc<dyn ObjectStore>> {
        if let Backend::Local { root, durable, .. } = &self.inner.backend {
            let folder = root.join(path).parent().map_or_else(|| root.clone(), PathBuf::from);
            if !durable.lock().unwrap_or_else(PoisonError::into_inner).contains(&folder) {
                let (root, durable) = (root.clone(), Arc::clone(durable));
                blocking("make the directory of", path, move || {
                    connect::make_directories(&root, &folder, &durable)
                })
                .await?;
            }
        }
        self.readable(path)?.ok_or_else(|| RepositoryError::NotFound { path: path.to_owned() })
    }

    /// The whole object.
    ///
    /// # Errors
    /// [`RepositoryError::NotFound`] and what the store says.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.get_limited(path, MAX_OBJECT_IN_MEMORY).await
    }

    /// The whole object, refused when it is longer than `limit` bytes.
    pub(crate) async fn get_limited(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.get_with(path, None, limit).await.map(|(bytes, _)| bytes)
    }

    /// `length` bytes from `start`; fewer is an error.
    pub(crate) async fn get_range(&self, path: &str, start: u64, length: u64) -> Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let range = GetRange::Bounded(start..start.saturating_add(length));
        let (bytes, _) = self.get_with(path, Some(range), length).await?;
        if bytes.len() as u64 != length {
            return Err(RepositoryError::corrupt(
                path,
                format!("{} of {length} bytes at {start} are there: it was cut short", bytes.len()),
            ));
        }
        Ok(bytes)
    }

    /// The last `length` bytes (fewer when the object is shorter) and the object's size.
    pub(crate) async fn get_tail(&self, path: &str, length: u64) -> Result<(Bytes, u64)> {
        match self.get_with(path, Some(GetRange::Suffix(length)), length).await {
            // Azure has no suffix ranges.
            Err(RepositoryError::Unreachable { source, .. })
                if matches!(
                    source.downcast_ref::<object_store::Error>(),
                    Some(
                        object_store::Error::NotSupported { .. }
                            | object_store::Error::NotImplemented { .. }
                    )
                ) =>
            {
                let size = self.size(path).await?;
                let take = length.min(size);
                Ok((self.get_range(path, size - take, take).await?, size))
            }
            other => other,
        }
    }

    /// The bytes and the size of the whole object. More than `limit` bytes are never taken in.
    async fn get_with(
        &self,
        path: &str,
        range: Option<GetRange>,
        limit: u64,
    ) -> Result<(Bytes, u64)> {
        let missing = || RepositoryError::NotFound { path: path.to_owned() };
        let store = self.readable(path)?.ok_or_else(missing)?;
        let options = GetOptions { range, ..GetOptions::default() };
        let failed = |e| RepositoryError::from_store("read", path, e);
        let result = store.get_opts(&self.full(path), options).await.map_err(failed)?;
        let size = result.meta.size;
        let expected = result.range.end.saturating_sub(result.range.start);
        if expected > limit {
            return Err(RepositoryError::corrupt(
                path,
                format!("{expected} bytes are there where at most {limit} are possible"),
            ));
        }
        let bytes = result.bytes().await.map_err(failed)?;
        if bytes.len() as u64 != expected {
            return Err(RepositoryError::corrupt(
                path,
                format!("{} of {expected} bytes arrived: it was cut short", bytes.len()),
            ));
        }
        Ok((bytes, size))
    }

    /// The object's size in bytes.
    pub(crate) async fn size(&self, path: &str) -> Result<u64> {
        self.head(path).await.map(|entry| entry.size)
    }

    pub(crate) async fn head(&self, path: &str) -> Result<ObjectEntry> {
        let missing = || RepositoryError::NotFound { path: path.to_owned() };
        let store = self.readable(path)?.ok_or_else(missing)?;
        let meta = store
            .head(&self.full(path))
            .await
            .map_err(|e| RepositoryError::from_store("read", path, e))?;
        Ok(ObjectEntry { path: path.to_owned(), size: meta.size, modified: meta.last_modified })
    }

    /// Puts an object that must not exist yet; durable when it returns.
    ///
    /// An answer lost on the way is resolved by reading back: if the object there is ours, the put
    /// has succeeded.
    ///
    /// # Errors
    /// [`RepositoryError::AlreadyExists`], [`RepositoryError::Full`] and what the store says.
    pub async fn put_new(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        if bytes.len() as u64 > CONDITIONAL_PUT_BYTES {
            match self.head(path).await {
                Ok(_) => return Err(RepositoryError::AlreadyExists { path: path.to_owned() }),
                Err(RepositoryError::NotFound { .. }) => {}
                Err(other) => return Err(other),
            }
            return self.put_parts(path, &bytes).await;
        }
        let store = self.writable(path).await?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = store.put_opts(&self.full(path), PutPayload::from(bytes.clone()), options).await;
        let error = match put {
            Ok(_) => return Ok(()),
            Err(e) => RepositoryError::from_store("write", path, e),
        };
        // A file system loses no answers: an error there (of `fsync`, say) is one.
        let may_be_done = match &error {
            RepositoryError::AlreadyExists { .. } => true,
            RepositoryError::Unreachable { .. } => {
                matches!(self.inner.backend, Backend::Ready { .. })
            }
            _ => false,
        };
        if !may_be_done {
            return Err(error);
        }
        match self.head(path).await {
            Ok(entry) => {
                // Whoever put it may have died before it was synced, and it is taken for stored from now on.
                self.sync_existing(path).await?;
                let exists = || RepositoryError::AlreadyExists { path: path.to_owned() };
                if entry.size != bytes.len() as u64 {
                    return Err(exists());
                }
                match self.get(path).await {
                    Ok(there) if there == bytes => Ok(()),
                    Ok(_) => Err(exists()),
                    Err(_) => Err(error),
                }
            }
            Err(_) => Err(error),
        }
    }

    /// An object that an earlier, failed put has left may not be durable on a file system.
    async fn sync_existing(&self, path: &str) -> Result<()> {
        let Backend::Local { root, .. } = &self.inner.backend else { return Ok(()) };
        let (root, name) = (root.clone(), path.to_owned());
        blocking("sync", path, move || connect::sync_file(&root, &name)).await
    }

    /// Makes what is listed below `prefix` durable. A put is durable when it returns; one whose process was
    /// killed before it did may have left an object that a power cut would take away again.
    ///
    /// # Errors
    /// What the file system says. Other stores have nothing to do.
    pub async fn settle(&self, prefix: &str) -> Result<()> {
        let Backend::Local { root, .. } = &self.inner.backend else { return Ok(()) };
        let (root, folder) = (root.clone(), root.join(prefix));
        blocking("sync", prefix, move || connect::sync_folders(&root, &folder)).await
    }

    /// Removes a folder of a file system that nothing is put into any more, if nothing is in it. Other
    /// stores have none.
    pub async fn remove_folder(&self, prefix: &str) {
        let Backend::Local { root, .. } = &self.inner.backend else { return };
        let folder = root.join(prefix);
        // One that is not empty, or gone, is left as it is.
        let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir(folder)).await;
    }

    /// Puts an object in any case; durable when it returns.
    ///
    /// # Errors
    /// [`RepositoryError::Full`] and what the store says.
    pub async fn put_replacing(&self, path: &str, bytes: impl Into<Bytes>) -> Result<()> {
        let bytes = bytes.into();
        if bytes.len() as u64 > SINGLE_PUT_BYTES {
            return self.put_parts(path, &bytes).await;
        }
        let store = self.writable(path).await?;
        store
            .put(&self.full(path), PutPayload::from(bytes))
            .await
            .map_err(|e| RepositoryError::from_store("write", path, e))?;
        Ok(())
    }

    async fn put_parts(&self, path: &str, bytes: &Bytes) -> Result<()> {
        let mut upload = self.begin_parts(path).await?;
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART_BYTES));
            upload.part(part).await?;
        }
        upload.complete().await
    }

    /// Starts an upload in parts; nothing is visible before it is completed.
    pub(crate) async fn begin_parts(&self, path: &str) -> Result<PartsUpload> {
        let store = self.writable(path).await?;
        let upload = store
            .put_multipart(&self.full(path))
            .await
            .map_err(|e| RepositoryError::from_store("write", path, e))?;
        Ok(PartsUpload {
            upload: Some(upload),
            running: futures_util::stream::FuturesUnordered::new(),
            path: path.to_owned(),
        })
    }

    /// Every object whose path begins with `prefix`, which ends at a '/' boundary; sorted by path.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>> {
        let prefix = prefix.trim_matches('/');
        let Some(store) = self.readable(prefix)? else { return Ok(Vec::new()) };
        let full = self.full(prefix);
        let own = self.full("");
        let listed = store
            .list(Some(&full))
            .map_ok(|meta| {
                let path: Vec<String> = meta
                    .location
                    .prefix_match(&own)
                    .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect())
                    .unwrap_or_default();
                ObjectEntry { path: path.join("/"), size: meta.size, modified: meta.last_modified }
            })
            .try_collect::<Vec<_>>()
            .await;
        let mut entries = match listed {
            Ok(entries) => entries,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(e) => return Err(RepositoryError::from_store("list", prefix, e)),
        };
        entries.retain(|entry| !entry.path.is_empty());
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Removes one object; one that is gone already is no error.
    ///
    /// # Errors
    /// What the store says.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let Some(store) = self.readable(path)? else { return Ok(()) };
        match store.delete(&self.full(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(RepositoryError::from_store("delete", path, e)),
        }
    }
}

/// Work on files, away from the runtime.
async fn blocking(
    operation: &'static str,
    path: &str,
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await.map_err(RepositoryError::worker)?;
    done.map_err(|error| {
        let error = object_store::Error::Generic { store: "local", source: Box::new(error) };
        RepositoryError::from_store(operation, path, error)
    })
}

/// An upload in parts. Dropped without [`PartsUpload::complete`] it leaves nothing listed.
pub(crate) struct PartsUpload {
    upload: Option<Box<dyn object_store::MultipartUpload>>,
    running: futures_util::stream::FuturesUnordered<object_store::UploadPart>,
    path: String,
}

impl PartsUpload {
    /// Hands over the next part; waits while [`PARTS_IN_FLIGHT`] are under way.
    pub(crate) async fn part(&mut self, bytes: Bytes) -> Result<()> {
        while self.running.len() >= PARTS_IN_FLIGHT {
            if let Some(Err(error)) = self.running.next().await {
                return Err(self.abort(error).await);
            }
        }
        if let Some(upload) = self.upload.as_mut() {
            self.running.push(upload.put_part(PutPayload::from(bytes)));
        }
        Ok(())
    }

    /// Makes the object visible and durable.
    pub(crate) async fn complete(mut self) -> Result<()> {
        while let Some(done) = self.running.next().await {
            if let Err(error) = done {
                return Err(self.abort(error).await);
            }
        }
        let Some(upload) = self.upload.as_mut() else {
            return Err(RepositoryError::worker("the upload was abandoned"));
        };
        match upload.complete().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.abort(error).await),
        }
    }

    async fn abort(&mut self, error: object_store::Error) -> RepositoryError {
        self.running.clear();
        if let Some(mut upload) = self.upload.take()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(path = %self.path, %error, "parts of a failed upload stay behind");
        }
        RepositoryError::from_store("write", &self.path, error)
    }
}
