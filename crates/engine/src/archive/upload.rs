//! Brings WAL to the store (or the spool), in order, and tells how far it is durable.

use bytes::Bytes;
use holdfast_postgres::Lsn;
use holdfast_repository::{ObjectKind, PutKind, Repository, RepositoryError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::index::SegmentIndex;
use super::spool::Spool;
use crate::error::{EngineError, Result};

/// One piece of WAL on its way.
#[derive(Debug)]
pub(super) struct Upload {
    /// Where it goes.
    pub(super) path: String,
    /// A whole segment or a timeline's tail, which is never replaced; else a slice.
    pub(super) sealed: bool,
    /// The WAL.
    pub(super) bytes: Bytes,
    /// What is in it.
    pub(super) index: SegmentIndex,
    /// Everything below this is durable once this piece is.
    pub(super) durable_to: Lsn,
    /// What it makes superfluous.
    pub(super) replaces: Replaces,
}

/// Objects that an upload makes superfluous.
#[derive(Debug)]
pub(super) enum Replaces {
    /// None.
    Nothing,
    /// These slices.
    Slices(Vec<String>),
    /// Every slice below this directory.
    Directory(String),
}

/// Where pieces go.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// Into the store; what the spool held of it is then removed there.
    Store(Repository, Option<Spool>),
    /// Into the spool.
    Spool(Repository, Spool),
}

impl Place {
    async fn put(&self, upload: &Upload) -> Result<()> {
        match self {
            Self::Store(repository, _) => put(repository, upload).await,
            Self::Spool(repository, spool) => spool.put(repository, upload).await,
        }
    }

    /// Removes what the piece has made superfluous.
    async fn tidy(&self, upload: Upload) {
        match self {
            Self::Spool(_, spool) => {
                if let Replaces::Slices(paths) = &upload.replaces {
                    spool.remove(paths).await;
                }
            }
            Self::Store(repository, spool) => {
                if let Some(spool) = spool {
                    let directory = match &upload.replaces {
                        Replaces::Directory(directory) => directory.as_str(),
                        _ => upload.path.rsplit_once('/').map_or("", |(directory, _)| directory),
                    };
                    spool.forget(&upload, directory).await;
                }
                remove_superfluous(repository, upload.replaces).await;
            }
        }
    }
}

/// One end of a queue of pieces and what it has brought to its place.
pub(super) struct Carrier {
    pub(super) queue: mpsc::Sender<Upload>,
    pub(super) durable: watch::Receiver<Lsn>,
    pub(super) task: JoinHandle<Result<()>>,
}

impl Carrier {
    pub(super) fn start(place: Place, begun: Lsn) -> Self {
        let (queue, uploads) = mpsc::channel(1);
        let (durable_to, durable) = watch::channel(begun);
        let task = tokio::spawn(run(place, uploads, durable_to));
        Self { queue, durable, task }
    }

    /// Waits until everything that was handed over is where it belongs.
    pub(super) async fn finish(self) -> Result<Lsn> {
        drop(self.queue);
        ended(self.task.await)?;
        Ok(*self.durable.borrow())
    }
}

pub(super) fn ended(
    outcome: std::result::Result<Result<()>, tokio::task::JoinError>,
) -> Result<()> {
    outcome.unwrap_or_else(|error| Err(EngineError::Fault(format!("the uploader failed: {error}"))))
}

/// Stops the uploads of a stream that is left: what is on its way may still arrive, which does no harm.
pub(super) struct Abandon(pub(super) tokio::task::AbortHandle);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Uploads until the channel closes. One at a time: the durable position never runs ahead of a
/// piece that failed.
async fn run(
    place: Place,
    mut uploads: mpsc::Receiver<Upload>,
    durable: watch::Sender<Lsn>,
) -> Result<()> {
    while let Some(upload) = uploads.recv().await {
        place.put(&upload).await?;
        durable.send_replace(upload.durable_to);
        place.tidy(upload).await;
    }
    Ok(())
}

/// Removes what an upload has made superfluous. What stays when a delete fails costs a little space;
/// it loses nothing.
pub(super) async fn remove_superfluous(repository: &Repository, replaces: Replaces) {
    let (superfluous, directory) = match replaces {
        Replaces::Nothing => return,
        Replaces::Slices(paths) => (paths, None),
        Replaces::Directory(prefix) => match repository.list(&prefix).await {
            Ok(entries) => (entries.into_iter().map(|e| e.path).collect(), Some(prefix)),
            Err(error) => {
                tracing::warn!(%prefix, %error, "slices could not be listed");
                return;
            }
        },
    };
    for path in superfluous {
        if let Err(error) = repository.delete(&path).await {
            tracing::warn!(%path, %error, "a superseded slice was left behind");
        }
    }
    if let Some(directory) = directory {
        repository.store().remove_folder(&directory).await;
    }
}

/// Stores a piece; one that is stored already with the same content is stored.
pub(super) async fn put(repository: &Repository, upload: &Upload) -> Result<()> {
    let (kind, mode) = if upload.sealed {
        (ObjectKind::WalSegment, PutKind::CreateOnly)
    } else {
        (ObjectKind::WalSlice, PutKind::Replace)
    };
    let outcome = repository
        .put_sealed(&upload.path, kind, std::slice::from_ref(&upload.bytes), &upload.index, mode)
        .await;
    match outcome {
        Ok(_) => Ok(()),
        Err(RepositoryError::AlreadyExists { .. }) => {
            if is_stored(repository, upload, kind).await? {
                return Ok(());
            }
            Err(EngineError::integrity(
                "wal_differs",
                format!(
                    "{} is archived already, with other content than the server sends now",
                    upload.path
                ),
                "Two servers write the same timeline (a promoted copy, a restored backup), or WAL was rewritten. \
                 Nothing was overwritten. Find out which server is the right one before archiving goes on.",
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the object in the place of a piece holds the same WAL.
async fn is_stored(repository: &Repository, upload: &Upload, kind: ObjectKind) -> Result<bool> {
    if repository.can_read() {
        let (stored, _): (Bytes, SegmentIndex) = repository.get_sealed(&upload.path, kind).await?;
        return Ok(stored == upload.bytes);
    }
    let stored: SegmentIndex = repository.get_sealed_metadata(&upload.path, kind).await?;
    Ok(stored.blake3.is_some() && stored.blake3 == upload.index.blake3)
}
