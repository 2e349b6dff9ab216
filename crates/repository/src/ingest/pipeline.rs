//! From frames to durable packs and index objects.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use uuid::Uuid;

use super::changed::{Changed, Differences};
use super::pack::{FinishedPack, PackBuilder};
use super::{Counters, IngestOptions, RawFrame};
use crate::container::Suite;
use crate::container::frame::EncodedFrame;
use crate::error::{RepositoryError, Result};
use crate::index::{ExtentEntry, INDEX_PREFIX, IndexBody, IndexedPack};
use crate::object::{ObjectKind, PutKind};
use crate::repository::Repository;

/// A pack of tiny extents is closed by their number: its directory has to stay small.
const EXTENTS_PER_PACK: usize = 16 * 1024;
/// An index object is written when this many extents have become durable, so that a long run that
/// is cut off has stored nothing in vain.
const EXTENTS_PER_INDEX: usize = 64 * 1024;
const PACKS_PER_INDEX: usize = 128;

pub(super) enum Message {
    Frame(RawFrame),
    Changed(Vec<Changed>),
    Finish,
}

enum Step {
    Frames(Vec<(EncodedFrame, Vec<ExtentEntry>)>),
    Finish,
}

pub(super) async fn run(
    repository: Repository,
    receiver: mpsc::Receiver<Message>,
    options: IngestOptions,
    differences: Differences,
    counters: Arc<Counters>,
) -> Result<()> {
    let encoding = repository.clone();
    let counting = Arc::clone(&counters);
    let mut steps = std::pin::pin!(
        futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        })
        .map(move |message| {
            let repository = encoding.clone();
            let (differences, counting) = (differences.clone(), Arc::clone(&counting));
            async move {
                match message {
                    Message::Finish => Ok(Step::Finish),
                    // A task of its own: what it reads goes on while a pack is uploaded.
                    Message::Changed(changed) => {
                        tokio::spawn(differences.encode(changed, counting))
                            .await
                            .map_err(RepositoryError::worker)?
                            .map(Step::Frames)
                    }
                    Message::Frame(frame) => spawn_blocking(move || {
                        let encoded = repository.inner.codec.encode(&frame.bytes)?;
                        Ok(Step::Frames(vec![(encoded, frame.extents)]))
                    })
                    .await
                    .map_err(RepositoryError::worker)?,
                }
            }
        })
        // Ordered, however long each frame takes.
        .buffered(options.workers.max(1))
    );
    let mut output = Output {
        repository: repository.clone(),
        uploads: JoinSet::new(),
        concurrent_uploads: options.concurrent_uploads.max(1),
        durable: Vec::new(),
        durable_extents: 0,
        counters,
    };
    let mut builder: Option<PackBuilder> = None;
    let outcome = async {
        while let Some(step) = steps.next().await {
            match step? {
                Step::Frames(frames) => {
                    for (frame, extents) in frames {
                        let filled =
                            fill(&repository, builder.take(), options.pack_size, frame, extents)
                                .await?;
                        if filled.stored_bytes() >= options.pack_size
                            || filled.extent_count() >= EXTENTS_PER_PACK
                        {
                            let pack = finish(&repository, filled).await?;
                            output.upload(pack).await?;
                        } else {
                            builder = Some(filled);
                        }
                    }
                }
                Step::Finish => {
                    if let Some(last) = builder.take() {
                        let pack = finish(&repository, last).await?;
                        output.upload(pack).await?;
                    }
                    output.finish().await?;
                    return Ok(());
                }
            }
        }
        // The ingest was dropped before its end.
        Err(RepositoryError::Cancelled)
    }
    .await;
    if outcome.is_err() {
        output.take_back().await;
    }
    outcome
}

async fn fill(
    repository: &Repository,
    builder: Option<PackBuilder>,
    pack_size: u64,
    frame: EncodedFrame,
    extents: Vec<ExtentEntry>,
) -> Result<PackBuilder> {
    let repository = repository.clone();
    spawn_blocking(move || {
        let mut builder = match builder {
            Some(builder) => builder,
            None => PackBuilder::begin(&repository, pack_size)?,
        };
        builder.push(frame, extents)?;
        Ok(builder)
    })
    .await
    .map_err(RepositoryError::worker)?
}

async fn finish(repository: &Repository, builder: PackBuilder) -> Result<FinishedPack> {
    let repository = repository.clone();
    spawn_blocking(move || builder.finish(&repository)).await.map_err(RepositoryError::worker)?
}

struct Output {
    repository: Repository,
    uploads: JoinSet<Result<IndexedPack>>,
    concurrent_uploads: usize,
    /// Uploaded, but not in an index object yet.
    durable: Vec<IndexedPack>,
    durable_extents: usize,
    counters: Arc<Counters>,
}

impl Output {
    async fn upload(&mut self, pack: FinishedPack) -> Result<()> {
        while self.uploads.len() >= self.concurrent_uploads {
            self.settle_one().await?;
        }
        let store = self.repository.store().clone();
        let counters = Arc::clone(&self.counters);
        self.uploads.spawn(async move {
            let size = pack.directory.size;
            store.put_new(&pack.directory.pack.path(), pack.bytes).await?;
            counters.bytes_stored.fetch_add(size, Ordering::Relaxed);
            Ok(pack.directory)
        });
        if self.durable_extents >= EXTENTS_PER_INDEX || self.durable.len() >= PACKS_PER_INDEX {
            self.write_index().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<()> {
        if let Some(uploaded) = self.uploads.join_next().await {
            let directory = uploaded.map_err(RepositoryError::worker)??;
            self.durable_extents += directory.extent_count();
            self.durable.push(directory);
        }
        Ok(())
    }

    /// Names the packs that are durable.
    async fn write_index(&mut self) -> Result<()> {
        if self.durable.is_empty() {
            return Ok(());
        }
        self.durable_extents = 0;
        // Before the index object may be there: from then on nothing of it is taken back.
        let packs = std::mem::take(&mut self.durable);
        let path = format!("{INDEX_PREFIX}/{}", Uuid::new_v4().simple());
        let receipt = self
            .repository
            .put_container(
                &path,
                ObjectKind::Index,
                Suite::Empty,
                Vec::new(),
                &IndexBody { packs },
                PutKind::CreateOnly,
            )
            .await?;
        self.counters.bytes_stored.fetch_add(receipt.bytes_stored, Ordering::Relaxed);
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        while !self.uploads.is_empty() {
            self.settle_one().await?;
        }
        self.write_index().await
    }

    /// Removes the packs that no index object names: nobody could find what is in them, and a store
    /// that is full needs the room. What cannot be removed stays as garbage, which loses nothing.
    async fn take_back(&mut self) {
        while let Some(uploaded) = self.uploads.join_next().await {
            self.durable.extend(uploaded.ok().and_then(Result::ok));
        }
        for directory in self.durable.drain(..) {
            let path = directory.pack.path();
            if let Err(error) = self.repository.delete(&path).await {
                tracing::warn!(%path, %error, "an unfinished run's pack was left behind");
            }
        }
    }
}
