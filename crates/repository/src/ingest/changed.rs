//! Extents of which most was there before: only what differs is stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;

use super::{Counters, FRAME_RAW_BYTES, RawFrame};
use crate::container::frame::EncodedFrame;
use crate::delta;
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::fetch::ExtentReader;
use crate::index::{DeltaOf, ExtentEntry, Index};
use crate::repository::Repository;

/// Changed extents are compared with their bases together up to this much, which is in memory twice.
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
    /// Its name.
    pub id: ExtentId,
    /// Its bytes, where they are at hand: they are not read again then.
    pub bytes: Option<Bytes>,
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
    /// How much reading older content has been worth lately; below zero, groups that are not tried.
    trust: Arc<AtomicI64>,
}

impl Differences {
    pub(super) fn new(repository: &Repository, index: &Arc<Index>) -> Self {
        let bases = ExtentReader::by_index(repository, index);
        let trust = Arc::new(AtomicI64::new(MOST_TRUST));
        Self { repository: repository.clone(), bases, trust }
    }

    /// Whether older content is read for the next extents. Where everything is new, reading is in vain.
    fn worth_reading(&self) -> bool {
        let trust = self.trust.load(Ordering::Relaxed);
        if trust < 0 {
            self.trust.fetch_add(1, Ordering::Relaxed);
        }
        trust >= 0
    }

    fn learn(&self, worth: i64, not: i64) {
        let trust = self.trust.load(Ordering::Relaxed).max(0);
        let next = (trust + worth * WORTH_GAINS - not).min(MOST_TRUST);
        self.trust.store(if next < 0 { -UNTRIED } else { next }, Ordering::Relaxed);
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
        if !missing.is_empty() && !self.worth_reading() {
            missing.clear();
        }
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
            let (mut worth, mut not) = (0, 0);
            for Changed { id, bytes, base, at_hand } in changed {
                let old = at_hand.as_ref().or_else(|| read.get(&base));
                let delta = old.and_then(|old| {
                    let delta = delta::encode(old, &bytes)?;
                    // Nobody else looks at it before it is needed.
                    let made = delta::apply(old, &delta, bytes.len());
                    let same = made.is_some_and(|made| made == bytes);
                    (same && inner.writer.extent_id(old) == base).then_some(delta)
                });
                if at_hand.is_none() && old.is_some() {
                    *if delta.is_some() { &mut worth } else { &mut not } += 1;
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
            self.learn(worth, not);
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
