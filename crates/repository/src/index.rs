//! Which extent is in which pack.

mod load;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::container::{
    FrameEntry, HEADER_BYTES, Header, HexHeader, MAX_FRAME_RAW, Suite, TRAILER_BYTES, check_frames,
};
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::object::ObjectKind;

/// Where the packs are: `packs/<first two digits>/<32 hex digits>`.
pub(crate) const PACKS_PREFIX: &str = "packs";
/// Where the index objects are.
pub(crate) const INDEX_PREFIX: &str = "index";

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

/// One extent inside a frame: `[id, bytes]`, or of a delta `[id, bytes in the frame, base, bytes of the extent]`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct ExtentEntry {
    pub(crate) id: ExtentId,
    /// Bytes in the frame.
    pub(crate) stored: u32,
    /// What it is a difference from.
    pub(crate) delta: Option<DeltaOf>,
}

/// What a delta is a difference from, and what it makes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct DeltaOf {
    /// An extent that is stored whole somewhere.
    pub(crate) base: ExtentId,
    /// Bytes of the extent that the delta makes.
    pub(crate) length: u32,
}

impl ExtentEntry {
    pub(crate) fn whole(id: ExtentId, length: u32) -> Self {
        Self { id, stored: length, delta: None }
    }
}

impl ExtentEntry {
    /// Whether there can be such a delta. Of an extent that is whole the frame says it.
    fn is_possible(&self) -> bool {
        self.delta.is_none_or(|delta| {
            let length = delta.length as usize;
            self.stored > 0 && !delta.base.is_zero() && (1..=MAX_FRAME_RAW).contains(&length)
        })
    }
}

impl Serialize for ExtentEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.delta {
            None => (self.id, self.stored).serialize(serializer),
            Some(DeltaOf { base, length }) => {
                (self.id, self.stored, base, length).serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for ExtentEntry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = ExtentEntry;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("two or four fields of an extent")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut fields: A,
            ) -> Result<ExtentEntry, A::Error> {
                use serde::de::Error;
                let short = |n| A::Error::invalid_length(n, &"two or four fields");
                let id = fields.next_element()?.ok_or_else(|| short(0))?;
                let stored = fields.next_element()?.ok_or_else(|| short(1))?;
                let delta = match fields.next_element()? {
                    None => None,
                    Some(base) => {
                        let length = fields.next_element()?.ok_or_else(|| short(3))?;
                        Some(DeltaOf { base, length })
                    }
                };
                Ok(ExtentEntry { id, stored, delta })
            }
        }
        deserializer.deserialize_seq(Fields)
    }
}

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
    /// The agent that says so, by its public key in hex; none where an operator does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
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
                extents.iter().map(|extent| u64::from(extent.stored)).sum::<u64>() == frame.raw()
            })
            && self.extents.iter().flatten().all(ExtentEntry::is_possible);
        if fits { Ok(header) } else { Err(corrupt()) }
    }

    /// A digest of the directory, to compare an index with the packs.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.pack.0.as_bytes());
        hasher.update(&self.size.to_le_bytes());
        hasher.update(&self.header.0);
        for (frame, extents) in self.frames.iter().zip(&self.extents) {
            hasher.update(&frame.offset().to_le_bytes());
            hasher.update(&frame.stored().to_le_bytes());
            hasher.update(&frame.raw().to_le_bytes());
            for extent in extents {
                hasher.update(extent.id.as_bytes());
                hasher.update(&extent.stored.to_le_bytes());
                hasher.update(&[u8::from(extent.delta.is_some())]);
                if let Some(delta) = extent.delta {
                    hasher.update(delta.base.as_bytes());
                    hasher.update(&delta.length.to_le_bytes());
                }
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
    /// An operator, or this device, says what is in it. What another agent says is looked at only where nobody
    /// else knows an extent: it can be checked when it is read, and not before.
    vouched: bool,
}

/// Where bytes of an extent are.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) struct Location {
    pub(crate) pack: u32,
    pub(crate) frame: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// How an extent is got.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its bytes, or its delta's.
    pub(crate) at: Location,
    /// For a delta, what it is a difference from.
    pub(crate) base: Option<FoundBase>,
}

/// The base of a delta.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundBase {
    pub(crate) id: ExtentId,
    pub(crate) at: Location,
    /// Bytes of the extent that the delta makes.
    pub(crate) length: u32,
}

/// The packs that an extent is made from: one, or the delta's and its base's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Carriers(PackId, Option<PackId>);

impl IntoIterator for Carriers {
    type Item = PackId;
    type IntoIter = std::iter::Chain<std::iter::Once<PackId>, std::option::IntoIter<PackId>>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self.0).chain(self.1)
    }
}

#[derive(Copy, Clone)]
struct Entry {
    id: ExtentId,
    at: Location,
}

/// One extent costs this much memory; a delta has its base beside that.
const _: () = assert!(size_of::<Entry>() == 48);

/// The index in memory: entries sorted by extent.
#[derive(Clone, Default)]
pub struct Index {
    packs: Vec<Pack>,
    /// Places in `packs`, with digests of the directories: an agent may say something else of a pack than who
    /// wrote it.
    known: HashMap<PackId, Vec<([u8; 32], u32)>>,
    entries: Vec<Entry>,
    sorted: usize,
    /// Of the entries that are deltas.
    deltas: HashMap<Location, DeltaOf>,
    objects: HashSet<String>,
    damaged: Vec<String>,
    /// Packs that are there, and of which it is not known what is in them.
    unknown: Vec<PackId>,
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

    /// The packs that `id` is made from; `None` when it cannot be made from packs that are there.
    pub fn packs_of(&self, id: &ExtentId) -> Option<Carriers> {
        self.packs_outside(id, &HashSet::new())
    }

    /// Packs that are there and that it knows nothing of.
    pub(crate) fn unknown(&self) -> &[PackId] {
        &self.unknown
    }

    /// Index objects that could not be read, with the reason.
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// What is known of `id`.
    fn known_of(&self, id: &ExtentId) -> impl Iterator<Item = Location> {
        debug_assert_eq!(self.sorted, self.entries.len());
        let first = self.entries.partition_point(|entry| entry.id < *id);
        let known = self.entries[first..].iter().take_while(move |entry| entry.id == *id);
        known.map(|entry| entry.at)
    }

    /// How `id` is got from packs that are there.
    pub(crate) fn locate(&self, id: &ExtentId) -> Option<Found> {
        self.locate_without(id, &HashSet::new())
    }

    /// The same without the directories at these places in the index.
    pub(crate) fn locate_without(&self, id: &ExtentId, refused: &HashSet<u32>) -> Option<Found> {
        // By those who are vouched for before others.
        self.found_in(id, &|place, pack| pack.vouched && !refused.contains(&place))
            .or_else(|| self.found_in(id, &|place, _| !refused.contains(&place)))
    }

    /// Where `id` is stored whole, outside of the packs in `avoided`, and somebody vouches for it.
    pub(crate) fn whole_outside(
        &self,
        id: &ExtentId,
        avoided: &HashSet<PackId>,
    ) -> Option<Location> {
        self.whole_in(id, &|_, pack| pack.vouched && !avoided.contains(&pack.id))
    }

    fn whole_in(&self, id: &ExtentId, usable: &dyn Fn(u32, &Pack) -> bool) -> Option<Location> {
        self.known_of(id)
            .filter(|at| !self.deltas.contains_key(at))
            .find(|at| self.pack(*at).is_some_and(|pack| pack.present && usable(at.pack, pack)))
    }

    /// Whole before a delta: it costs one read.
    fn found_in(&self, id: &ExtentId, usable: &dyn Fn(u32, &Pack) -> bool) -> Option<Found> {
        if let Some(at) = self.whole_in(id, usable) {
            return Some(Found { at, base: None });
        }
        self.known_of(id).find_map(|at| {
            let DeltaOf { base, length } = *self.deltas.get(&at)?;
            self.pack(at).filter(|pack| pack.present && usable(at.pack, pack))?;
            let base = FoundBase { id: base, at: self.whole_in(&base, usable)?, length };
            Some(Found { at, base: Some(base) })
        })
    }

    /// Packs that `id` is made from and that are not among `avoided`; none when it takes one of those, or cannot
    /// be made at all.
    pub(crate) fn packs_outside(
        &self,
        id: &ExtentId,
        avoided: &HashSet<PackId>,
    ) -> Option<Carriers> {
        let found = self.packs_to_share(id, avoided);
        let any = || self.found_in(id, &|_, pack| !avoided.contains(&pack.id));
        found.or_else(|| self.carriers(any()?))
    }

    /// The same without believing another agent.
    pub(crate) fn packs_to_share(
        &self,
        id: &ExtentId,
        avoided: &HashSet<PackId>,
    ) -> Option<Carriers> {
        let found = self.found_in(id, &|_, pack| pack.vouched && !avoided.contains(&pack.id))?;
        self.carriers(found)
    }

    fn carriers(&self, found: Found) -> Option<Carriers> {
        let base = found.base.and_then(|base| self.pack(base.at)).map(|pack| pack.id);
        Some(Carriers(self.pack(found.at)?.id, base))
    }

    /// Every pack that knows `id`, or the base of a delta of it, those that are gone or cut short included.
    pub(crate) fn packs_knowing(&self, id: &ExtentId) -> impl Iterator<Item = PackId> {
        let bases = self.known_of(id).filter_map(|at| self.deltas.get(&at));
        let bases: Vec<Location> = bases.flat_map(|delta| self.known_of(&delta.base)).collect();
        let known: Vec<Location> = self.known_of(id).chain(bases).collect();
        known.into_iter().filter_map(|at| self.pack(at)).map(|pack| pack.id)
    }

    /// A pack that is gone or cut short, and knows `id` or the base of its delta.
    pub(crate) fn lost_pack_of(&self, id: &ExtentId) -> Option<PackId> {
        self.known_of(id).find_map(|at| {
            let pack = self.pack(at)?;
            if !pack.present {
                return Some(pack.id);
            }
            let delta = self.deltas.get(&at)?;
            self.known_of(&delta.base)
                .filter_map(|at| self.pack(at))
                .find(|pack| !pack.present)
                .map(|pack| pack.id)
        })
    }

    pub(crate) fn pack(&self, at: Location) -> Option<&Pack> {
        self.packs.get(at.pack as usize)
    }

    pub(crate) fn has_pack(&self, id: &PackId) -> bool {
        self.known.contains_key(id)
    }

    /// Adds a directory, for which somebody vouches or not.
    pub(crate) fn add(&mut self, repository: Uuid, pack: IndexedPack, vouched: bool) -> Result<()> {
        let digest = pack.digest();
        let same = self.known.get(&pack.pack).into_iter().flatten().find(|known| known.0 == digest);
        if let Some((_, place)) = same {
            if let Some(known) = self.packs.get_mut(*place as usize) {
                known.vouched |= vouched;
            }
            return Ok(());
        }
        let header = pack.check(repository)?;
        let too_many = |_| RepositoryError::worker("the index is too large for this machine");
        let number = u32::try_from(self.packs.len()).map_err(too_many)?;
        for (frame, extents) in pack.extents.iter().enumerate() {
            let frame = u32::try_from(frame).map_err(too_many)?;
            let mut offset = 0u32;
            for ExtentEntry { id, stored, delta } in extents {
                let at = Location { pack: number, frame, offset, length: *stored };
                self.entries.push(Entry { id: *id, at });
                if let Some(delta) = delta {
                    self.deltas.insert(at, *delta);
                }
                // Cannot overflow: the sum is the frame's raw length, at most 1 MiB.
                offset = offset.saturating_add(*stored);
            }
        }
        self.known.entry(pack.pack).or_default().push((digest, number));
        self.packs.push(Pack {
            id: pack.pack,
            size: pack.size,
            header,
            frames: pack.frames.into_boxed_slice(),
            present: false,
            vouched,
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
        self.unknown = listed.keys().filter(|id| !self.known.contains_key(id)).copied().collect();
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
        let list: Vec<ExtentEntry> = extents
            .iter()
            .map(|b| ExtentEntry::whole(ExtentId::from_bytes([*b; 32]), 10))
            .collect();
        let raw = u32::try_from(list.len() * 10).unwrap();
        IndexedPack {
            pack: PackId(Uuid::from_u128(n)),
            size: 1000,
            header: HexHeader(header.encode()),
            frames: vec![FrameEntry(60, 40, raw)],
            extents: vec![list],
            by: None,
        }
    }

    fn id(b: u8) -> ExtentId {
        ExtentId::from_bytes([b; 32])
    }

    fn carriers(index: &Index, b: u8) -> Vec<u128> {
        index.packs_of(&id(b)).into_iter().flatten().map(|pack| pack.0.as_u128()).collect()
    }

    fn listed(packs: &[(u128, u64)]) -> HashMap<PackId, u64> {
        packs.iter().map(|(n, size)| (PackId(Uuid::from_u128(*n)), *size)).collect()
    }

    #[test]
    fn an_extent_of_a_lost_pack_is_found_in_another() {
        let repository = Uuid::from_u128(1);
        let mut index = Index::default();
        index.add(repository, pack(repository, 1, &[1, 2]), true).unwrap();
        index.add(repository, pack(repository, 2, &[2, 3]), true).unwrap();
        index.settle(&listed(&[(2, 1000)]));
        assert_eq!(carriers(&index, 2), [2]);
        assert_eq!(carriers(&index, 1), []);
        assert_eq!(index.lost_pack_of(&id(1)), Some(PackId(Uuid::from_u128(1))));
        assert_eq!(index.locate(&id(3)).unwrap().at.offset, 10);
        index.settle(&listed(&[(2, 999)]));
        assert_eq!(carriers(&index, 3), []);
    }

    #[test]
    fn nobody_shares_with_an_agent_and_its_word_comes_last() {
        let repository = Uuid::from_u128(1);
        let mut index = Index::default();
        index.add(repository, pack(repository, 1, &[1, 2]), false).unwrap();
        index.add(repository, pack(repository, 2, &[2, 3]), true).unwrap();
        // Of the same pack as the operator says, something else.
        index.add(repository, pack(repository, 2, &[3, 2]), false).unwrap();
        index.settle(&listed(&[(1, 1000), (2, 1000)]));
        let none = HashSet::new();
        assert_eq!(index.packs_to_share(&id(1), &none), None);
        assert_eq!(index.whole_outside(&id(1), &none), None);
        assert_eq!(carriers(&index, 1), [1]);
        assert_eq!(carriers(&index, 2), [2]);
        let found = index.locate(&id(2)).unwrap().at;
        assert_eq!((found.pack, found.offset), (1, 0));
        let refused = HashSet::from([1]);
        assert_eq!(index.locate_without(&id(2), &refused).unwrap().at.pack, 0);
        let refused = HashSet::from([0, 1]);
        assert_eq!(index.locate_without(&id(2), &refused).unwrap().at.pack, 2);
        // An agent that says everything right but the size hides nothing.
        let mut sized = pack(repository, 5, &[7]);
        sized.size += 1;
        index.add(repository, sized, false).unwrap();
        index.add(repository, pack(repository, 5, &[7]), true).unwrap();
        index.settle(&listed(&[(1, 1000), (2, 1000), (5, 1000)]));
        assert_eq!(carriers(&index, 7), [5]);
        // The operator confirms what the agent says.
        index.add(repository, pack(repository, 1, &[1, 2]), true).unwrap();
        assert!(index.packs_to_share(&id(1), &none).is_some());
        assert_eq!(index.packs().count(), 5);
    }

    /// A pack whose one extent is a difference from another.
    fn delta_pack(repository: Uuid, n: u128, extent: u8, base: u8) -> IndexedPack {
        let mut pack = pack(repository, n, &[extent]);
        pack.extents[0][0].delta = Some(DeltaOf { base: id(base), length: 50 });
        pack
    }

    #[test]
    fn a_delta_needs_its_base_whole() {
        let repository = Uuid::from_u128(1);
        let mut index = Index::default();
        index.add(repository, pack(repository, 1, &[1]), true).unwrap();
        index.add(repository, delta_pack(repository, 2, 2, 1), true).unwrap();
        // A base that is a delta itself is none: nobody writes that.
        index.add(repository, delta_pack(repository, 3, 3, 2), true).unwrap();
        let all = [(1, 1000), (2, 1000), (3, 1000), (4, 1000)];
        index.settle(&listed(&all[..3]));
        assert_eq!(carriers(&index, 2), [2, 1]);
        assert_eq!(carriers(&index, 3), []);
        let knowing: HashSet<_> = index.packs_knowing(&id(2)).map(|p| p.0.as_u128()).collect();
        assert_eq!(knowing, HashSet::from([1, 2]));
        let avoided = HashSet::from([PackId(Uuid::from_u128(1))]);
        assert_eq!(index.packs_outside(&id(2), &avoided), None);
        index.settle(&listed(&all[1..3]));
        assert_eq!(carriers(&index, 2), []);
        assert_eq!(index.lost_pack_of(&id(2)), Some(PackId(Uuid::from_u128(1))));
        // Stored whole as well: one read is better than two.
        index.add(repository, pack(repository, 4, &[2]), true).unwrap();
        index.settle(&listed(&all));
        assert_eq!(carriers(&index, 2), [4]);
        assert_eq!(carriers(&index, 3), [3, 4]);
    }

    #[test]
    fn entries_have_two_fields_or_four() {
        let delta = delta_pack(Uuid::from_u128(1), 1, 2, 1).extents[0][0];
        for entry in [delta, ExtentEntry::whole(id(1), 10)] {
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<ExtentEntry>(&text).unwrap(), entry, "{text}");
        }
        let id = "0".repeat(64);
        for wrong in ["[]", &format!("[\"{id}\"]"), &format!("[\"{id}\",1,\"{id}\"]")] {
            assert!(serde_json::from_str::<ExtentEntry>(wrong).is_err(), "{wrong}");
        }
        let five = format!("[\"{id}\",1,\"{id}\",2,3]");
        assert!(serde_json::from_str::<ExtentEntry>(&five).is_err());
    }

    #[test]
    fn impossible_directories_are_refused() {
        let repository = Uuid::from_u128(1);
        assert!(delta_pack(repository, 1, 2, 1).check(repository).is_ok());
        for (base, length) in [(0, 50), (1, 0), (1, 1024 * 1024 + 1), (1, u32::MAX)] {
            let mut wrong = delta_pack(repository, 1, 2, 1);
            wrong.extents[0][0].delta = Some(DeltaOf { base: id(base), length });
            assert!(wrong.check(repository).is_err(), "{base} {length}");
        }
        let mut empty = delta_pack(repository, 1, 2, 1);
        let nothing = ExtentEntry { stored: 0, ..empty.extents[0][0] };
        empty.extents[0].push(nothing);
        assert!(empty.check(repository).is_err());
        let mut wrong = pack(repository, 1, &[1, 2]);
        wrong.extents[0].pop();
        assert!(wrong.check(repository).is_err());
        assert!(pack(repository, 1, &[1]).check(Uuid::from_u128(2)).is_err());
        assert!(pack(repository, 1, &[1]).check(repository).is_ok());
    }
}
