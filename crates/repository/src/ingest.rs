//! Adding extents: hash, look up, compress, seal, pack, upload, index.
//!
//! Durability comes in this order: packs, then the index objects that name them; and only after
//! [`Ingest::flush`] may the caller write a manifest. An ingest that is dropped, or a process that
//! is killed, leaves packs that nothing refers to.

mod changed;
mod pack;
mod pipeline;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::file_table::FileTableWriter;
use crate::index::{ExtentEntry, Index, PackId};
use crate::repository::Repository;
pub use changed::OldExtent;
use changed::{CHANGED_BYTES, Changed, Differences};
use pipeline::Message;

/// Consecutive new extents are compressed together up to this much.
pub(crate) const FRAME_RAW_BYTES: usize = 512 * 1024;
/// Extents up to this size are hashed in place: some 30 µs, less than handing them over costs.
const HASH_IN_PLACE_BYTES: usize = 128 * 1024;
/// Frames, or groups of changed extents, waiting for a worker: 2 MiB of the one, of the other 8 MiB with what is at
/// hand of their bases.
const QUEUED_FRAMES: usize = 4;

/// How an ingest uses the machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IngestOptions {
    /// Stored bytes after which a pack is closed, default 16 MiB.
    pub pack_size: u64,
    /// Frames compressed at once, default 2.
    pub workers: usize,
    /// Packs uploaded at once, default 1; one more is being assembled.
    pub concurrent_uploads: usize,
    /// Packs that nothing may be shared with: they are marked for removal.
    pub avoided: HashSet<PackId>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            pack_size: 16 * 1024 * 1024,
            workers: 2,
            concurrent_uploads: 1,
            avoided: HashSet::new(),
        }
    }
}

impl IngestOptions {
    /// Another pack size, 64 KiB to 256 MiB.
    #[must_use]
    pub fn with_pack_size(mut self, bytes: u64) -> Self {
        self.pack_size = bytes.clamp(64 * 1024, 256 * 1024 * 1024);
        self
    }

    /// More or fewer compressing threads.
    #[must_use]
    pub fn with_workers(mut self, workers: usize) -> Self {
        self.workers = workers.clamp(1, 64);
        self
    }

    /// Packs that nothing is shared with.
    #[must_use]
    pub fn with_avoided(mut self, packs: HashSet<PackId>) -> Self {
        self.avoided = packs;
        self
    }

    /// More uploads at once; each costs a pack's size in memory.
    #[must_use]
    pub fn with_concurrent_uploads(mut self, uploads: usize) -> Self {
        self.concurrent_uploads = uploads.clamp(1, 64);
        self
    }
}

/// What an ingest has done.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct IngestStats {
    /// Extents added, zero and known ones included.
    pub extents_seen: u64,
    /// Of these, stored.
    pub extents_new: u64,
    /// Of these, stored as what differs from an extent that was there.
    pub extents_delta: u64,
    /// Bytes of all extents.
    pub bytes_seen: u64,
    /// Bytes of the new ones.
    pub bytes_new: u64,
    /// Bytes of the packs and index objects that were uploaded.
    pub bytes_stored: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    extents_seen: AtomicU64,
    extents_new: AtomicU64,
    pub(crate) extents_delta: AtomicU64,
    bytes_seen: AtomicU64,
    bytes_new: AtomicU64,
    pub(crate) bytes_stored: AtomicU64,
}

/// A run of additions. Extents may be added from several tasks; their order is the order in which
/// the calls took effect.
pub struct Ingest {
    repository: Repository,
    index: Arc<Index>,
    avoided: HashSet<PackId>,
    counters: Arc<Counters>,
    state: tokio::sync::Mutex<State>,
    pipeline: std::sync::Mutex<Option<JoinHandle<Result<()>>>>,
}

struct State {
    /// Added by this run and not in `index`.
    new: HashSet<ExtentId>,
    frame: RawFrame,
    /// New extents whose older content is there, and their bytes.
    changed: Vec<Changed>,
    changed_bytes: usize,
    sender: mpsc::Sender<Message>,
}

/// Extents of one frame, end to end.
#[derive(Default)]
pub(crate) struct RawFrame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) extents: Vec<ExtentEntry>,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ingest({:?})", self.stats())
    }
}

impl Repository {
    /// Starts adding extents, with default options. Reads the index first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn begin_ingest(&self) -> Result<Ingest> {
        self.begin_ingest_with(IngestOptions::default()).await
    }

    /// Starts adding extents.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn begin_ingest_with(&self, mut options: IngestOptions) -> Result<Ingest> {
        let avoided = std::mem::take(&mut options.avoided);
        let index = self.load_index(false).await?;
        let (sender, receiver) = mpsc::channel(QUEUED_FRAMES);
        let counters = Arc::new(Counters::default());
        let differences = Differences::new(self, &index);
        let pipeline = tokio::spawn(pipeline::run(
            self.clone(),
            receiver,
            options,
            differences,
            Arc::clone(&counters),
        ));
        Ok(Ingest {
            repository: self.clone(),
            index,
            avoided,
            counters,
            state: tokio::sync::Mutex::new(State {
                new: HashSet::new(),
                frame: RawFrame::default(),
                changed: Vec::new(),
                changed_bytes: 0,
                sender,
            }),
            pipeline: std::sync::Mutex::new(Some(pipeline)),
        })
    }
}

impl Ingest {
    /// The most bytes that one extent has.
    pub fn extent_size(&self) -> usize {
        self.repository.extent_size()
    }

    /// Adds an extent and returns its name. Waits while the workers or the store are behind, so
    /// that memory stays bounded. Content of only zero bytes is [`ExtentId::ZERO`] and not stored.
    ///
    /// # Errors
    /// What the store said to an earlier pack: once, then [`RepositoryError::IngestFailed`].
    pub async fn add_extent(&self, bytes: Bytes) -> Result<ExtentId> {
        self.add(bytes, None).await
    }

    /// As [`Ingest::add_extent`], where most of the content is that of another extent: when that one is there
    /// and can be read, and little differs, only the difference is stored.
    ///
    /// # Errors
    /// As [`Ingest::add_extent`].
    pub async fn add_changed_extent(&self, bytes: Bytes, old: OldExtent) -> Result<ExtentId> {
        self.add(bytes, Some(old)).await
    }

    async fn add(&self, bytes: Bytes, old: Option<OldExtent>) -> Result<ExtentId> {
        if bytes.len() > self.extent_size() {
            return Err(RepositoryError::InvalidArgument {
                what: format!(
                    "an extent of {} bytes, where at most {} are possible",
                    bytes.len(),
                    self.extent_size()
                ),
            });
        }
        let id = if bytes.len() <= HASH_IN_PLACE_BYTES {
            self.repository.inner.writer.extent_id(&bytes)
        } else {
            let repository = self.repository.clone();
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || repository.inner.writer.extent_id(&bytes))
                .await
                .map_err(RepositoryError::worker)?
        };
        let length = bytes.len() as u64;
        self.counters.extents_seen.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_seen.fetch_add(length, Ordering::Relaxed);
        if id.is_zero() || self.index.packs_to_share(&id, &self.avoided).is_some() {
            return Ok(id);
        }
        // Held while a full frame is handed over: that keeps the order, and is the back-pressure.
        let mut state = self.state.lock().await;
        if !state.new.insert(id) {
            return Ok(id);
        }
        self.counters.extents_new.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_new.fetch_add(length, Ordering::Relaxed);
        if let Some(changed) = old.and_then(|old| self.changed(id, &bytes, old)) {
            state.changed_bytes += bytes.len();
            state.changed.push(changed);
            if state.changed_bytes >= CHANGED_BYTES {
                self.hand_over_changed(&mut state).await?;
            }
            return Ok(id);
        }
        if !state.frame.bytes.is_empty() && state.frame.bytes.len() + bytes.len() > FRAME_RAW_BYTES
        {
            self.hand_over(&mut state).await?;
        }
        if state.frame.bytes.capacity() == 0 {
            state.frame.bytes.reserve_exact(FRAME_RAW_BYTES.max(bytes.len()));
        }
        state.frame.bytes.extend_from_slice(&bytes);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        state.frame.extents.push(ExtentEntry::whole(id, length));
        Ok(id)
    }

    /// What a new extent may be a difference from; none when nothing can be made of its older content.
    fn changed(&self, id: ExtentId, bytes: &Bytes, old: OldExtent) -> Option<Changed> {
        let (base, at_hand) = old.base(&self.index, &self.avoided)?;
        if at_hand.is_none() && !self.repository.can_read() {
            return None;
        }
        Some(Changed { id, bytes: bytes.clone(), base, at_hand })
    }

    /// Counts an extent of another snapshot in, which stays where it is. Its `length` is believed.
    ///
    /// # Errors
    /// [`RepositoryError::Corrupt`] when no pack that is there holds it.
    pub fn share_extent(&self, id: &ExtentId, length: u64) -> Result<()> {
        // Also out of a pack that is marked: the snapshot that it is of was not, and whoever removes something
        // finds another carrier for it, or leaves the pack.
        if !id.is_zero() && self.index.packs_to_share(id, &HashSet::new()).is_none() {
            return Err(RepositoryError::corrupt(
                crate::index::INDEX_PREFIX,
                format!("no pack holds extent {id} any more"),
            ));
        }
        self.counters.extents_seen.fetch_add(1, Ordering::Relaxed);
        self.counters.bytes_seen.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Stores bytes under a name that need not be theirs, as a writer could who is mistaken, or lies.
    #[cfg(test)]
    pub(crate) async fn add_under(&self, entry: ExtentEntry, bytes: Vec<u8>) -> Result<()> {
        let state = self.state.lock().await;
        self.send(&state, Message::Frame(RawFrame { bytes, extents: vec![entry] })).await
    }

    async fn hand_over(&self, state: &mut State) -> Result<()> {
        let frame = std::mem::take(&mut state.frame);
        if frame.extents.is_empty() {
            return Ok(());
        }
        self.send(state, Message::Frame(frame)).await
    }

    async fn hand_over_changed(&self, state: &mut State) -> Result<()> {
        state.changed_bytes = 0;
        let changed = std::mem::take(&mut state.changed);
        if changed.is_empty() {
            return Ok(());
        }
        self.send(state, Message::Changed(changed)).await
    }

    async fn send(&self, state: &State, message: Message) -> Result<()> {
        match state.sender.send(message).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.outcome().await.err().unwrap_or(RepositoryError::IngestFailed)),
        }
    }

    /// How the pipeline ended; waits for its end.
    async fn outcome(&self) -> Result<()> {
        let handle = self.pipeline.lock().unwrap_or_else(PoisonError::into_inner).take();
        match handle {
            Some(handle) => handle.await.map_err(RepositoryError::worker)?,
            None => Err(RepositoryError::IngestFailed),
        }
    }

    /// What has been done so far.
    pub fn stats(&self) -> IngestStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        IngestStats {
            extents_seen: read(&self.counters.extents_seen),
            extents_new: read(&self.counters.extents_new),
            extents_delta: read(&self.counters.extents_delta),
            bytes_seen: read(&self.counters.bytes_seen),
            bytes_new: read(&self.counters.bytes_new),
            bytes_stored: read(&self.counters.bytes_stored),
        }
    }

    /// A table for the files whose extents are being added.
    ///
    /// # Errors
    /// When the local spool cannot be made.
    pub async fn begin_file_table(&self) -> Result<FileTableWriter> {
        FileTableWriter::begin(&self.repository).await
    }

    /// Waits until every pack and then every index object is durable.
    ///
    /// # Errors
    /// What the store said; then no manifest may be written. Running again stores nothing twice.
    pub async fn flush(self) -> Result<IngestStats> {
        let mut state = self.state.lock().await;
        self.hand_over(&mut state).await?;
        self.hand_over_changed(&mut state).await?;
        // An error here means that the pipeline has ended; its outcome says why.
        let _sent = state.sender.send(Message::Finish).await;
        drop(state);
        self.outcome().await?;
        Ok(self.stats())
    }
}
