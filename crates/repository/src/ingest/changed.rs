//! Extents of which most was there before: only what differs is stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Counters, FRAME_RAW_BYTES, RawFrame};
use crate::container::frame::EncodedFrame;
use crate::delta;
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::fetch::ExtentReader;
use crate::index::{DeltaOf, ExtentEntry, Index, PackId};
use crate::repository::Repository;

/// Changed extents are compared with their bases together up to this much; the bases are in memory beside that,
/// an extent's size each.
pub(super) const CHANGED_BYTES: usize = 1024 * 1024;
/// What the trust in older content is at most. A difference that was worth storing adds
/// [`WORTH_GAINS`], one that was not takes one away.
const MOST_TRUST: i64 = 256;
const WORTH_GAINS: i64 = 4;
/// Without trust, so many groups of extents are stored whole before one is compared again.
const UNTRIED: i64 = 8;

/// What stood where a new extent stands now.
#[derive(Clone, Debug)]
pub struct OldExtent {
    id: ExtentId,
    read: Option<Read>,
}

/// What has been read of it.
#[derive(Clone, Debug)]
struct Read {
    bytes: Bytes,
    /// The extent itself, or the one that it is stored as a difference from.
    base: ExtentId,
    base_bytes: Bytes,
}

impl OldExtent {
    /// An extent that is read when it is needed.
    pub fn named(id: ExtentId) -> Self {
        Self { id, read: None }
    }

    /// One that has been read: it is not read again.
    pub(crate) fn read(id: ExtentId, bytes: Bytes, base: ExtentId, base_bytes: Bytes) -> Self {
        Self { id, read: Some(Read { bytes, base, base_bytes }) }
    }

    /// Its bytes; none of one that has not been read, and of the zero extent.
    pub fn bytes(&self) -> &[u8] {
        self.read.as_ref().map_or(&[], |read| &read.bytes)
    }

    pub(crate) fn set_bytes(&mut self, bytes: Bytes) {
        if let Some(read) = &mut self.read {
            read.bytes = bytes;
        }
    }

    /// What a new extent may be a difference from: by name, and its bytes where they have been read.
    pub(super) fn base(
        self,
        index: &Index,
        avoided: &HashSet<PackId>,
    ) -> Option<(ExtentId, Option<Bytes>)> {
        let usable = |base: &ExtentId| index.whole_outside(base, avoided).is_some();
        if let Some(read) = self.read.filter(|read| usable(&read.base)) {
            return Some((read.base, Some(read.base_bytes)));
        }
        let found = index.locate(&self.id)?;
        // A delta has no deltas: what it was made from is the base of this one too.
        let base = found.base.map_or(self.id, |base| base.id);
        usable(&base).then_some((base, None))
    }
}

/// A new extent, and the one that it may be a difference from.
pub(super) struct Changed {
    pub(super) id: ExtentId,
    pub(super) bytes: Bytes,
    /// Stored whole, in a pack that is there.
    pub(super) base: ExtentId,
    /// The base's bytes.
    pub(super) at_hand: Option<Bytes>,
}

/// Compares changed extents with their bases.
#[derive(Clone)]
pub(super) struct Differences {
    repository: Repository,
    bases: ExtentReader,
    trust: Arc<Trust>,
}

/// How much reading older content has been worth lately; below zero, groups that are not tried.
struct Trust(AtomicI64);

impl Trust {
    fn new() -> Self {
        Self(AtomicI64::new(MOST_TRUST))
    }

    /// Whether older content is read for the next extents. Where everything is new, reading is in vain.
    fn is_worth_reading(&self) -> bool {
        let trust = self.0.load(Ordering::Relaxed);
        if trust < 0 {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        trust >= 0
    }

    /// How many of a group that was read became differences, and how many did not.
    fn learn(&self, worth: i64, not: i64) {
        let trust = self.0.load(Ordering::Relaxed).max(0);
        let next = (trust + worth * WORTH_GAINS - not).min(MOST_TRUST);
        self.0.store(if next < 0 { -UNTRIED } else { next }, Ordering::Relaxed);
    }
}

impl Differences {
    pub(super) fn new(repository: &Repository, index: &Arc<Index>) -> Self {
        let bases = ExtentReader::by_index(repository, index, &CancellationToken::new());
        Self { repository: repository.clone(), bases, trust: Arc::new(Trust::new()) }
    }

    /// The frames that store these extents, as differences where that is worth it.
    pub(super) async fn encode(
        self,
        changed: Vec<Changed>,
        counters: Arc<Counters>,
    ) -> Result<Vec<(EncodedFrame, Vec<ExtentEntry>)>> {
        let mut missing: Vec<ExtentId> =
            changed.iter().filter(|c| c.at_hand.is_none()).map(|c| c.base).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() && !self.trust.is_worth_reading() {
            missing.clear();
        }
        let tried = missing.len();
        let read: HashMap<ExtentId, Bytes> = match self.bases.read(&missing).await {
            Ok(read) => missing.into_iter().zip(read).collect(),
            // What cannot be read is not built on.
            Err(error) => {
                tracing::warn!(%error, "older content cannot be read; new content is stored whole");
                HashMap::new()
            }
        };
        let inner = Arc::clone(&self.repository.inner);
        tokio::task::spawn_blocking(move || {
            let mut frames = vec![RawFrame::default()];
            let mut worth = 0;
            for Changed { id, bytes, base, at_hand } in changed {
                let old = at_hand.as_ref().or_else(|| read.get(&base));
                let delta = old.and_then(|old| {
                    let delta = delta::encode(old, &bytes)?;
                    // Nobody else looks at it before it is needed.
                    let made = delta::apply(old, &delta, bytes.len());
                    let same = made.is_some_and(|made| made == bytes);
                    (same && inner.writer.extent_id(old) == base).then_some(delta)
                });
                if at_hand.is_none() && delta.is_some() {
                    worth += 1;
                }
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                let (stored, entry) = match &delta {
                    Some(delta) => {
                        counters.extents_delta.fetch_add(1, Ordering::Relaxed);
                        let stored = u32::try_from(delta.len()).unwrap_or(u32::MAX);
                        let delta_of = Some(DeltaOf { base, length });
                        (delta.as_slice(), ExtentEntry { id, stored, delta: delta_of })
                    }
                    None => (&bytes[..], ExtentEntry::whole(id, length)),
                };
                if let Some(last) = frames.last_mut()
                    && (last.bytes.is_empty() || last.bytes.len() + stored.len() <= FRAME_RAW_BYTES)
                {
                    last.bytes.extend_from_slice(stored);
                    last.extents.push(entry);
                } else {
                    frames.push(RawFrame { bytes: stored.to_vec(), extents: vec![entry] });
                }
            }
            if tried > 0 {
                // What could not be read was in vain as well.
                self.trust.learn(worth, i64::try_from(tried).unwrap_or(i64::MAX) - worth);
            }
            frames
                .into_iter()
                .filter(|frame| !frame.extents.is_empty())
                .map(|frame| Ok((inner.codec.encode(&frame.bytes)?, frame.extents)))
                .collect()
        })
        .await
        .map_err(RepositoryError::worker)?
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        CreateOptions, DeviceId, ExtentSink, KdfParams, NewSlot, Severity, SinkError, Store,
        VerifyLevel, WantedExtent,
    };

    #[test]
    fn what_is_in_vain_is_tried_once_in_a_while() {
        let trust = Trust::new();
        let tried = |groups: usize| {
            (0..groups)
                .filter(|_| {
                    let tried = trust.is_worth_reading();
                    if tried {
                        trust.learn(0, 16);
                    }
                    tried
                })
                .count()
        };
        assert_eq!(tried(17), 17, "until the trust of the beginning is used up");
        assert_eq!(tried(90), 10, "one of nine");
        while !trust.is_worth_reading() {}
        trust.learn(16, 0);
        assert_eq!(tried(4), 4);
    }

    async fn repository() -> (Store, Repository) {
        let store = Store::from_object_store(Arc::new(object_store::memory::InMemory::new()), "");
        let slots = [NewSlot::Keychain(&[7; 32])];
        let options = CreateOptions::default().with_kdf(KdfParams::INSECURE_FOR_TESTS);
        let created = Repository::create(store.clone(), DeviceId::generate(), &slots, options);
        (store, created.await.unwrap())
    }

    /// Noise of one extent, and the same with one byte changed.
    fn two(repository: &Repository) -> (Bytes, Bytes) {
        let mut bytes = vec![0; repository.extent_size()];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let old = Bytes::from(bytes.clone());
        bytes[77] ^= 1;
        (old, bytes.into())
    }

    #[tokio::test]
    async fn what_is_not_what_it_is_said_to_be_is_not_built_on() {
        let (_, repository) = repository().await;
        let (old, new) = two(&repository);
        let ingest = repository.begin_ingest().await.unwrap();
        let id = ingest.add_extent(old.clone()).await.unwrap();
        ingest.flush().await.unwrap();
        for (claimed, deltas) in [(new.clone(), 0), (old, 1)] {
            let ingest = repository.begin_ingest().await.unwrap();
            let old = OldExtent::read(id, claimed.clone(), id, claimed);
            let mut bytes = new.to_vec();
            bytes[99] ^= u8::try_from(deltas + 1).unwrap();
            ingest.add_changed_extent(bytes.into(), old).await.unwrap();
            assert_eq!(ingest.flush().await.unwrap().extents_delta, deltas);
        }
    }

    struct Nowhere;

    impl ExtentSink for Nowhere {
        fn write(&self, _: u64, _: &ExtentId, _: &[u8]) -> Result<(), SinkError> {
            Ok(())
        }
    }

    /// A writer with a key may still have been wrong: authentic, but not what the name says.
    #[tokio::test]
    async fn a_delta_that_makes_something_else_is_found() {
        let (_, repository) = repository().await;
        let (old, new) = two(&repository);
        let ingest = repository.begin_ingest().await.unwrap();
        let base = ingest.add_extent(old.clone()).await.unwrap();
        ingest.flush().await.unwrap();
        let others: HashSet<PackId> = repository.index().await.unwrap().packs().collect();
        let id = ExtentId::from_bytes([9; 32]);
        let bytes = delta::encode(&old, &new).unwrap();
        let delta = Some(DeltaOf { base, length: u32::try_from(new.len()).unwrap() });
        let entry = ExtentEntry { id, stored: u32::try_from(bytes.len()).unwrap(), delta };
        let ingest = repository.begin_ingest().await.unwrap();
        ingest.add_under(entry, bytes).await.unwrap();
        ingest.flush().await.unwrap();
        let index = repository.index().await.unwrap();
        let pack = index.packs().find(|pack| !others.contains(pack)).unwrap().path();
        let cancel = CancellationToken::new();
        let wanted = vec![WantedExtent { id, token: 0 }];
        let fetched = repository.fetch_extents(wanted, 1, Arc::new(Nowhere), &cancel).await;
        let reader = repository.extent_reader().await.unwrap();
        for error in [fetched.unwrap_err(), reader.read_old(&[id]).await.unwrap_err()] {
            assert!(
                matches!(&error, RepositoryError::Corrupt { object, .. } if *object == pack),
                "{error}"
            );
        }
        let report = repository.verify(VerifyLevel::Data, &|_| {}, &cancel).await.unwrap();
        let found: Vec<&str> = report
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Error)
            .map(|f| f.object.as_str())
            .collect();
        assert_eq!(found, [pack.as_str()]);
    }
}
