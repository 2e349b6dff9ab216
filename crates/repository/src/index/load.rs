//! Reading the index: its objects, who says what in them, and packs that none of them names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};

use super::{INDEX_PREFIX, Index, IndexBody, IndexedPack, PACKS_PREFIX, PackBody, PackId};
use crate::container::{HEADER_BYTES, TRAILER_BYTES};
use crate::crypto::{from_hex, hex};
use crate::documents::body;
use crate::error::{RepositoryError, Result};
use crate::object::ObjectKind;
use crate::repository::Repository;
use crate::writers::WriterRole;

/// Index objects read at once.
const LOADS_IN_FLIGHT: usize = 4;

impl Repository {
    /// Reads what is new in the index, and which packs are there. Index objects that are damaged
    /// or of an unknown writer are left out (see [`Index::damaged`]): nothing is shared with them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn index(&self) -> Result<Arc<Index>> {
        self.load_index(false).await
    }

    /// With `complete`, packs that no index names are looked at themselves. These are not kept for the next time:
    /// they may be of a run that takes them back, and nothing is to be shared with them.
    pub(crate) async fn load_index(&self, complete: bool) -> Result<Arc<Index>> {
        let mut cached = self.inner.index.lock().await;
        let objects = self.list(INDEX_PREFIX).await?;
        let listed: HashMap<PackId, u64> = self
            .list(PACKS_PREFIX)
            .await?
            .into_iter()
            .filter_map(|entry| Some((PackId::parse_path(&entry.path)?, entry.size)))
            .collect();
        let names: HashSet<&str> = objects.iter().map(|entry| entry.path.as_str()).collect();
        let mut index = match cached.take() {
            Some(index) if index.objects.iter().all(|path| names.contains(path.as_str())) => index,
            _ => Arc::default(),
        };
        let missing: Vec<String> = objects
            .iter()
            .map(|entry| entry.path.clone())
            .filter(|path| !index.objects.contains(path))
            .collect();
        let target = Arc::make_mut(&mut index);
        target.damaged.clear();
        let mut loads = futures_util::stream::iter(missing)
            .map(|path| async move {
                match self.read_index_object(&path).await {
                    Ok(body) => Ok((path, Ok(self.vouched(body).await?))),
                    // Deleted since it was listed.
                    Err(RepositoryError::NotFound { .. }) => Ok((path, Ok(Vec::new()))),
                    Err(
                        error @ (RepositoryError::Corrupt { .. }
                        | RepositoryError::UntrustedWriter { .. }
                        | RepositoryError::UnsupportedFormat { .. }
                        | RepositoryError::Document { .. }),
                    ) => Ok((path, Err(error))),
                    Err(error) => Err(error),
                }
            })
            .buffer_unordered(LOADS_IN_FLIGHT);
        while let Some((path, outcome)) = loads.try_next().await? {
            let added = outcome.and_then(|packs| {
                packs
                    .into_iter()
                    .try_for_each(|(pack, vouched)| target.add(self.id(), pack, vouched))
            });
            match added {
                Ok(()) => {
                    target.objects.insert(path);
                }
                Err(error) => {
                    tracing::warn!(%error, "an index object is not used");
                    target.damaged.push(format!("{path}: {error}"));
                }
            }
        }
        drop(loads);
        target.settle(&listed);
        *cached = Some(Arc::clone(&index));
        drop(cached);
        if complete && !index.unknown.is_empty() {
            self.add_unnamed(Arc::make_mut(&mut index), &listed).await?;
        }
        Ok(index)
    }

    /// Adds the packs that no index object names.
    async fn add_unnamed(&self, index: &mut Index, listed: &HashMap<PackId, u64>) -> Result<()> {
        let mut tails = futures_util::stream::iter(index.unknown.clone())
            .map(|id| async move { (id, self.read_pack_directory(id).await) })
            .buffer_unordered(LOADS_IN_FLIGHT);
        while let Some((id, outcome)) = tails.next().await {
            let added = match outcome {
                Ok(pack) => {
                    let vouched = self.vouches(pack.by.as_deref()).await?;
                    index.add(self.id(), pack, vouched)
                }
                Err(error) => Err(error),
            };
            match added {
                Ok(()) | Err(RepositoryError::NotFound { .. }) => {}
                Err(error @ RepositoryError::Unreachable { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(pack = %id, %error, "a pack without index is not used");
                }
            }
        }
        index.settle(listed);
        Ok(())
    }

    /// What an index object says, and who of each pack: an agent speaks for nobody else.
    pub(crate) async fn read_index_object(&self, path: &str) -> Result<IndexBody> {
        let (_, opened) = self.open_whole(path, ObjectKind::Index).await?;
        let mut body: IndexBody = body(path, &opened)?;
        if let Some(agent) = self.agent(path, &opened.trailer.writer).await? {
            for pack in &mut body.packs {
                pack.by = Some(agent.clone());
            }
        }
        Ok(body)
    }

    /// The writer's public key in hex, when it is an agent.
    async fn agent(&self, object: &str, writer: &[u8; 32]) -> Result<Option<String>> {
        let role = self.role_of(object, writer).await?;
        Ok((role == WriterRole::Agent).then(|| hex(writer)))
    }

    async fn vouched(&self, body: IndexBody) -> Result<Vec<(IndexedPack, bool)>> {
        let mut packs = Vec::with_capacity(body.packs.len());
        for pack in body.packs {
            let vouched = self.vouches(pack.by.as_deref()).await?;
            packs.push((pack, vouched));
        }
        Ok(packs)
    }

    /// Whether this process believes what is said of a pack: by an operator, or by itself.
    async fn vouches(&self, agent: Option<&str>) -> Result<bool> {
        let Some(agent) = agent else { return Ok(true) };
        let Some(public) = from_hex::<32>(agent) else { return Ok(false) };
        match self.vouches_for(INDEX_PREFIX, &public).await {
            Ok(vouches) => Ok(vouches),
            Err(RepositoryError::UntrustedWriter { .. } | RepositoryError::Corrupt { .. }) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A pack's own directory, from its tail.
    pub(crate) async fn read_pack_directory(&self, id: PackId) -> Result<IndexedPack> {
        let path = id.path();
        let (opened, _) = self.open_tail(&path, ObjectKind::Pack).await?;
        let directory: PackBody = body(&path, &opened)?;
        let by = self.agent(&path, &opened.trailer.writer).await?;
        let size = opened.trailer.content_bytes
            + opened.trailer.metadata_bytes
            + (HEADER_BYTES + TRAILER_BYTES) as u64;
        Ok(IndexedPack {
            pack: id,
            size,
            header: opened.metadata.header,
            frames: opened.metadata.frames,
            extents: directory.extents,
            by,
        })
    }
}
