//! An object store that fails on request, for tests of everything above it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};

/// How an operation fails.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// An error; nothing has happened.
    Error,
    /// An error, although it has happened (the answer was lost).
    ErrorAfterSuccess,
    /// A read gives half of the bytes, without an error. Other operations fail with an error.
    TruncatedBody,
    /// A write keeps other bytes than it was given, without an error. Other operations fail with an error.
    CorruptedWrite,
    /// A write that is to happen only where nothing is replaces what is there; everything else works.
    IgnoredCondition,
    /// A listing lacks its first entry. Other operations fail with an error.
    LostListEntry,
    /// It takes this long.
    Slow(Duration),
    /// The disk is full: writes fail, everything else works.
    Full,
    /// Nothing may be removed; everything else works.
    Locked,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum Operation {
    Read,
    Write,
    List,
    Delete,
}

#[derive(Copy, Clone)]
struct Armed {
    from: u64,
    count: u64,
    fault: Fault,
}

#[derive(Default)]
struct Control {
    operations: AtomicU64,
    armed: Mutex<Option<Armed>>,
}

impl Control {
    /// Counts the operation and says how it fails, if it does.
    fn next(&self, operation: Operation) -> Option<Fault> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let armed = *self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let Armed { from, count, fault } = armed?;
        let applies = number >= from && number - from < count;
        let of_writes = matches!(fault, Fault::Full | Fault::IgnoredCondition);
        let harmless = (of_writes && operation != Operation::Write)
            || (fault == Fault::Locked && operation != Operation::Delete);
        (applies && !harmless).then_some(fault)
    }
}

/// The decorator. Every operation has a number, counted from 0 since the last
/// [`FaultStore::arm`] or [`FaultStore::disarm`]; parts of an upload and its completion count.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    control: Arc<Control>,
}

impl FaultStore {
    /// Around another store; nothing fails yet.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, control: Arc::default() }
    }

    /// From operation `nth` on, `count` operations fail.
    pub fn arm(&self, nth: u64, count: u64, fault: Fault) {
        self.control.operations.store(0, Ordering::SeqCst);
        *self.control.armed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Armed { from: nth, count, fault });
    }

    /// Nothing fails any more.
    pub fn disarm(&self) {
        self.control.operations.store(0, Ordering::SeqCst);
        *self.control.armed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Operations since it was last armed or disarmed.
    pub fn operations(&self) -> u64 {
        self.control.operations.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

fn injected() -> object_store::Error {
    object_store::Error::Generic { store: "FaultStore", source: "injected failure".into() }
}

fn locked() -> object_store::Error {
    object_store::Error::PermissionDenied { path: String::new(), source: "it is locked".into() }
}

fn full() -> object_store::Error {
    object_store::Error::Generic {
        store: "FaultStore",
        source: Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull)),
    }
}

/// The payload with one bit of it turned.
fn corrupted(payload: &PutPayload) -> Vec<u8> {
    let mut bytes: Vec<u8> = payload.iter().flatten().copied().collect();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes
}

/// Runs `operation` as `fault` wants it.
async fn under<T>(fault: Option<Fault>, operation: impl Future<Output = Result<T>>) -> Result<T> {
    match fault {
        None | Some(Fault::IgnoredCondition) => operation.await,
        Some(
            Fault::Error | Fault::TruncatedBody | Fault::LostListEntry | Fault::CorruptedWrite,
        ) => Err(injected()),
        Some(Fault::Full) => Err(full()),
        Some(Fault::Locked) => Err(locked()),
        Some(Fault::ErrorAfterSuccess) => {
            operation.await?;
            Err(injected())
        }
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            operation.await
        }
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.control.next(Operation::Write);
        if fault == Some(Fault::CorruptedWrite) {
            let payload = PutPayload::from(corrupted(&payload));
            return self.inner.put_opts(location, payload, options).await;
        }
        if fault == Some(Fault::IgnoredCondition) {
            let options = PutOptions { mode: PutMode::Overwrite, ..options };
            return self.inner.put_opts(location, payload, options).await;
        }
        under(fault, self.inner.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.control.next(Operation::Write);
        let inner = under(fault, self.inner.put_multipart_opts(location, options)).await?;
        Ok(Box::new(FaultUpload { inner, control: Arc::clone(&self.control) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.control.next(Operation::Read);
        if fault != Some(Fault::TruncatedBody) {
            return under(fault, self.inner.get_opts(location, options)).await;
        }
        let GetResult { payload, meta, range, attributes, extensions } =
            self.inner.get_opts(location, options).await?;
        let whole = GetResult {
            payload,
            meta: meta.clone(),
            range: range.clone(),
            attributes: attributes.clone(),
            extensions: extensions.clone(),
        };
        let bytes = whole.bytes().await?;
        let half = bytes.slice(..bytes.len() / 2);
        let payload = GetResultPayload::Stream(futures_util::stream::iter([Ok(half)]).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .and_then(move |location| {
                let this = this.clone();
                async move {
                    let fault = this.control.next(Operation::Delete);
                    let one = futures_util::stream::iter([Ok(location)]).boxed();
                    let deleted = this.inner.delete_stream(one).try_collect::<Vec<_>>();
                    let mut deleted = under(fault, deleted).await?;
                    deleted.pop().ok_or_else(injected)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        match self.control.next(Operation::List) {
            None | Some(Fault::Full) => listed,
            Some(Fault::LostListEntry) => listed.skip(1).boxed(),
            Some(Fault::Slow(time)) => {
                futures_util::stream::once(tokio::time::sleep(time).map(move |()| listed))
                    .flatten()
                    .boxed()
            }
            Some(Fault::ErrorAfterSuccess) => {
                listed.chain(futures_util::stream::iter([Err(injected())])).boxed()
            }
            Some(_) => futures_util::stream::iter([Err(injected())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let fault = self.control.next(Operation::List);
        under(fault, self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.control.next(Operation::Write);
        under(fault, self.inner.copy_opts(from, to, options)).await
    }
}

struct FaultUpload {
    inner: Box<dyn MultipartUpload>,
    control: Arc<Control>,
}

impl fmt::Debug for FaultUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultUpload({:?})", self.inner)
    }
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.control.next(Operation::Write);
        if fault == Some(Fault::CorruptedWrite) {
            return self.inner.put_part(PutPayload::from(corrupted(&data)));
        }
        under(fault, self.inner.put_part(data)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.control.next(Operation::Write);
        under(fault, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
