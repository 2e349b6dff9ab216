//! Which extent is in which pack.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::container::{
    FrameEntry, HEADER_BYTES, Header, HexHeader, Suite, TRAILER_BYTES, check_frames,
};
use crate::documents::body;
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::object::ObjectKind;
use crate::repository::Repository;

/// Where the packs are: `packs/<first two digits>/<32 hex digits>`.
pub(crate) const PACKS_PREFIX: &str = "packs";
/// Where the index objects are.
pub(crate) const INDEX_PREFIX: &str = "index";
/// Index objects read at once.
const LOADS_IN_FLIGHT: usize = 4;

/// A pack's random name.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct PackId(pub(crate) Uuid);

impl PackId {
    pub(crate) fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// Where the pack is.
    pub fn path(&self) -> String {
        let id = self.0.simple().to_string();
        format!("{PACKS_PREFIX}/{}/{id}", &id[..2])
    }

    /// The pack at a path; none when no pack can be there.
    pub fn parse_path(path: &str) -> Option<Self> {
        let (_, id) = path.rsplit_once('/')?;
        let pack = Self(Uuid::try_parse(id).ok()?);
        (pack.path() == path).then_some(pack)
    }
}

impl std::fmt::Display for PackId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl Serialize for PackId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.simple())
    }
}

impl<'de> Deserialize<'de> for PackId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Uuid::try_parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// `[id, bytes]` of one extent inside a frame.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ExtentEntry(pub(crate) ExtentId, pub(crate) u32);

/// The body of a pack's metadata: the extents of each frame, in order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackBody {
    pub(crate) extents: Vec<Vec<ExtentEntry>>,
}

/// A pack as an index object lists it: all that is needed to read its frames.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexedPack {
    pub(crate) pack: PackId,
    pub(crate) size: u64,
    pub(crate) header: HexHeader,
    pub(crate) frames: Vec<FrameEntry>,
    pub(crate) extents: Vec<Vec<ExtentEntry>>,
}

impl IndexedPack {
    pub(crate) fn extent_count(&self) -> usize {
        self.extents.iter().map(Vec::len).sum()
    }

    /// Checks that the directory describes a possible pack.
    pub(crate) fn check(&self, repository: Uuid) -> Result<Header> {
        let path = self.pack.path();
        let corrupt = || RepositoryError::corrupt(&path, "its directory makes no sense");
        let header = Header::parse(&path, &self.header.0)?;
        let content = self.frames.last().map_or(0, |f| f.end().saturating_sub(HEADER_BYTES as u64));
        check_frames(&path, &self.frames, content)?;
        let fits = header.kind == ObjectKind::Pack
            && header.suite == Suite::Sealed
            && header.repository == repository
            && self.frames.len() == self.extents.len()
            && self.size >= content + (HEADER_BYTES + TRAILER_BYTES) as u64
            && self.frames.iter().zip(&self.extents).all(|(frame, extents)| {
                extents.iter().map(|extent| u64::from(extent.1)).sum::<u64>() == frame.raw()
            });
        if fits { Ok(header) } else { Err(corrupt()) }
    }

    /// A digest of the directory, to compare an index with the packs.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.header.0);
        for (frame, extents) in self.frames.iter().zip(&self.extents) {
            hasher.update(&frame.offset().to_le_bytes());
            hasher.update(&frame.stored().to_le_bytes());
            hasher.update(&frame.raw().to_le_bytes());
            for extent in extents {
                hasher.update(extent.0.as_bytes());
                hasher.update(&extent.1.to_le_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// The body of an index object.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IndexBody {
    pub(crate) packs: Vec<IndexedPack>,
}

/// A pack in memory.
#[derive(Clone)]
pub(crate) struct Pack {
    pub(crate) id: PackId,
    pub(crate) size: u64,
    pub(crate) header: Header,
    pub(crate) frames: Box<[FrameEntry]>,
    /// The store lists it with the right size.
    pub(crate) present: bool,
}

/// Where an extent is.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct Location {
    pub(crate) pack: u32,
    pub(crate) frame: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

#[derive(Copy, Clone)]
struct Entry {
    id: ExtentId,
    at: Location,
}

/// One extent costs this much memory and no more.
const _: () = assert!(size_of::<Entry>() == 48);

/// The index in memory: entries sorted by extent.
#[derive(Clone, Default)]
pub struct Index {
    packs: Vec<Pack>,
    known: HashMap<PackId, u32>,
    entries: Vec<Entry>,
    sorted: usize,
    objects: HashSet<String>,
    damaged: Vec<String>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({} packs, {} extents)", self.packs.len(), self.entries.len())
    }
}

impl Index {
    /// The packs that are listed by the index, those that are gone included.
    pub fn packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.packs.iter().map(|pack| pack.id)
    }

    /// How many extents it knows, counting one that is in two packs twice.
    pub fn extents(&self) -> usize {
        self.entries.len()
    }

    /// The pack that holds `id`; `None` when no pack that is there does.
    pub fn pack_of(&self, id: &ExtentId) -> Option<PackId> {
        self.locate(id).and_then(|at| self.pack(at)).map(|pack| pack.id)
    }

    /// Index objects that could not be read, with the reason.
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    pub(crate) fn locate(&self, id: &ExtentId) -> Option<Location> {
        debug_assert_eq!(self.sorted, self.entries.len());
        let first = self.entries.partition_point(|entry| entry.id < *id);
        self.entries[first..]
            .iter()
            .take_while(|entry| entry.id == *id)
            .map(|entry| entry.at)
            .find(|at| self.pack(*at).is_some_and(|pack| pack.present))
    }

    /// A pack that holds `id` and is not among `avoided`; none when only those do, or none does.
    pub(crate) fn pack_outside(&self, id: &ExtentId, avoided: &HashSet<PackId>) -> Option<PackId> {
        let first = self.entries.partition_point(|entry| entry.id < *id);
        self.entries[first..]
            .iter()
            .take_while(|entry| entry.id == *id)
            .filter_map(|entry| self.pack(entry.at))
            .find(|pack| pack.present && !avoided.contains(&pack.id))
            .map(|pack| pack.id)
    }

    /// Every pack that knows `id`, those that are gone or cut short included.
    pub(crate) fn packs_knowing(&self, id: &ExtentId) -> impl Iterator<Item = PackId> {
        let first = self.entries.partition_point(|entry| entry.id < *id);
        let known = self.entries[first..].iter().take_while(move |entry| entry.id == *id);
        known.filter_map(|entry| self.pack(entry.at)).map(|pack| pack.id)
    }

    /// A pack that knows `id` but is gone or cut short.
    pub(crate) fn lost_pack_of(&self, id: &ExtentId) -> Option<PackId> {
        let first = self.entries.partition_point(|entry| entry.id < *id);
        let entry = self.entries.get(first).filter(|entry| entry.id == *id)?;
        self.pack(entry.at).map(|pack| pack.id)
    }

    pub(crate) fn pack(&self, at: Location) -> Option<&Pack> {
        self.packs.get(at.pack as usize)
    }

    pub(crate) fn has_pack(&self, id: &PackId) -> bool {
        self.known.contains_key(id)
    }

    pub(crate) fn add(&mut self, repository: Uuid, pack: IndexedPack) -> Result<()> {
        if self.known.contains_key(&pack.pack) {
            return Ok(());
        }
        let header = pack.check(repository)?;
        let too_many = |_| RepositoryError::worker("the index is too large for this machine");
        let number = u32::try_from(self.packs.len()).map_err(too_many)?;
        for (frame, extents) in pack.extents.iter().enumerate() {
            let frame = u32::try_from(frame).map_err(too_many)?;
            let mut offset = 0u32;
            for ExtentEntry(id, length) in extents {
                let at = Location { pack: number, frame, offset, length: *length };
                self.entries.push(Entry { id: *id, at });
                // Cannot overflow: the sum is the frame's raw length, at most 1 MiB.
                offset = offset.saturating_add(*length);
            }
        }
        self.known.insert(pack.pack, number);
        self.packs.push(Pack {
            id: pack.pack,
            size: pack.size,
            header,
            frames: pack.frames.into_boxed_slice(),
            present: false,
        });
        Ok(())
    }

    fn settle(&mut self, listed: &HashMap<PackId, u64>) {
        if self.sorted != self.entries.len() {
            self.entries.sort_unstable_by_key(|entry| (entry.id, entry.at));
            self.entries.shrink_to_fit();
            self.sorted = self.entries.len();
        }
        for pack in &mut self.packs {
            pack.present = listed.get(&pack.id) == Some(&pack.size);
        }
    }
}

impl Repository {
    /// Reads what is new in the index, and which packs are there. Index objects that are damaged
    /// or of an unknown writer are left out (see [`Index::damaged`]): nothing is shared with them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn index(&self) -> Result<Arc<Index>> {
        self.load_index(false).await
    }

    /// With `complete`, packs that no index names are looked at themselves.
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
                    Ok(body) => Ok((path, Ok(body))),
                    // Deleted since it was listed.
                    Err(RepositoryError::NotFound { .. }) => {
                        Ok((path, Ok(IndexBody { packs: Vec::new() })))
                    }
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
            let added = outcome.and_then(|body| {
                body.packs.into_iter().try_for_each(|pack| target.add(self.id(), pack))
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
        if complete {
            let unnamed: Vec<PackId> =
                listed.keys().filter(|id| !target.has_pack(id)).copied().collect();
            let mut tails = futures_util::stream::iter(unnamed)
                .map(|id| async move { (id, self.read_pack_directory(id).await) })
                .buffer_unordered(LOADS_IN_FLIGHT);
            while let Some((id, outcome)) = tails.next().await {
                match outcome.and_then(|pack| target.add(self.id(), pack)) {
                    Ok(()) | Err(RepositoryError::NotFound { .. }) => {}
                    Err(error @ RepositoryError::Unreachable { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(pack = %id, %error, "a pack without index is not used");
                    }
                }
            }
        }
        let listed = &listed;
        target.settle(listed);
        *cached = Some(Arc::clone(&index));
        Ok(index)
    }

    pub(crate) async fn read_index_object(&self, path: &str) -> Result<IndexBody> {
        let (_, opened) = self.open_whole(path, ObjectKind::Index).await?;
        body(path, &opened)
    }

    /// A pack's own directory, from its tail.
    pub(crate) async fn read_pack_directory(&self, id: PackId) -> Result<IndexedPack> {
        let path = id.path();
        let (opened, _) = self.open_tail(&path, ObjectKind::Pack).await?;
        let directory: PackBody = body(&path, &opened)?;
        let size = opened.trailer.content_bytes
            + opened.trailer.metadata_bytes
            + (HEADER_BYTES + TRAILER_BYTES) as u64;
        Ok(IndexedPack {
            pack: id,
            size,
            header: opened.metadata.header,
            frames: opened.metadata.frames,
            extents: directory.extents,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pack_paths_round_trip() {
        let id = PackId(Uuid::from_u128(0xab00_0000_0000_0000_0000_0000_0000_0001));
        assert_eq!(id.path(), "packs/ab/ab000000000000000000000000000001");
        assert_eq!(PackId::parse_path(&id.path()), Some(id));
        assert_eq!(PackId::parse_path("packs/ac/ab000000000000000000000000000001"), None);
        assert_eq!(PackId::parse_path("packs/ab/AB000000000000000000000000000001"), None);
    }

    fn pack(repository: Uuid, n: u128, extents: &[u8]) -> IndexedPack {
        let header = Header {
            kind: ObjectKind::Pack,
            suite: Suite::Sealed,
            repository,
            encapsulated: [1; 32],
        };
        let list: Vec<ExtentEntry> =
            extents.iter().map(|b| ExtentEntry(ExtentId::from_bytes([*b; 32]), 10)).collect();
        let raw = u32::try_from(list.len() * 10).unwrap();
        IndexedPack {
            pack: PackId(Uuid::from_u128(n)),
            size: 1000,
            header: HexHeader(header.encode()),
            frames: vec![FrameEntry(60, 40, raw)],
            extents: vec![list],
        }
    }

    #[test]
    fn an_extent_of_a_lost_pack_is_found_in_another() {
        let repository = Uuid::from_u128(1);
        let mut index = Index::default();
        index.add(repository, pack(repository, 1, &[1, 2])).unwrap();
        index.add(repository, pack(repository, 2, &[2, 3])).unwrap();
        let second = HashMap::from([(PackId(Uuid::from_u128(2)), 1000)]);
        index.settle(&second);
        let id = |b| ExtentId::from_bytes([b; 32]);
        assert_eq!(index.pack_of(&id(2)), Some(PackId(Uuid::from_u128(2))));
        assert_eq!(index.pack_of(&id(1)), None);
        assert_eq!(index.lost_pack_of(&id(1)), Some(PackId(Uuid::from_u128(1))));
        assert_eq!(index.locate(&id(3)).unwrap().offset, 10);
        let cut = HashMap::from([(PackId(Uuid::from_u128(2)), 999)]);
        index.settle(&cut);
        assert_eq!(index.pack_of(&id(3)), None);
    }

    #[test]
    fn impossible_directories_are_refused() {
        let repository = Uuid::from_u128(1);
        let mut wrong = pack(repository, 1, &[1, 2]);
        wrong.extents[0].pop();
        assert!(wrong.check(repository).is_err());
        assert!(pack(repository, 1, &[1]).check(Uuid::from_u128(2)).is_err());
        assert!(pack(repository, 1, &[1]).check(repository).is_ok());
    }
}
