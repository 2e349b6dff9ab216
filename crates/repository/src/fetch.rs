//! Getting extents back: frame by frame, pack by pack, in parallel, every name checked.

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::container::read::ContentReader;
use crate::delta;
use crate::error::{RepositoryError, Result};
use crate::extent::ExtentId;
use crate::index::{Found, FoundBase, Index, Location, Pack, PackId};
use crate::ingest::OldExtent;
use crate::object::ObjectKind;
use crate::repository::Repository;

/// Deltas are in memory together up to this much, while their bases are read.
const DELTA_BYTES: usize = 32 * 1024 * 1024;

/// Ranged reads of an [`ExtentReader`] at once.
const READS_IN_FLIGHT: usize = 4;

/// Adjacent frames are read together up to this much.
const RANGE_BYTES: u64 = 4 * 1024 * 1024;

/// An extent that is wanted, and what the caller calls the place it goes to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct WantedExtent {
    /// Which extent.
    pub id: ExtentId,
    /// Given back with its bytes.
    pub token: u64,
}

/// The caller's own error while it takes an extent.
#[derive(Debug, thiserror::Error)]
#[error("the destination refused an extent")]
pub struct SinkError(#[source] pub Box<dyn Error + Send + Sync>);

/// Takes extents. Called on blocking threads, several at once, in no particular order.
pub trait ExtentSink: Send + Sync {
    /// Takes one extent, whose bytes have been checked against `id`.
    ///
    /// # Errors
    /// Ends the fetch.
    fn write(&self, token: u64, id: &ExtentId, bytes: &[u8]) -> Result<(), SinkError>;
}

/// What a fetch has done.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FetchStats {
    /// Extents given to the sink.
    pub extents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Zero extents that were left to the caller.
    pub zero_extents: u64,
    /// Bytes read from the store.
    pub bytes_fetched: u64,
    /// Ranged reads made.
    pub requests: u64,
    /// Extents that one pack did not give, damaged as it is, and another one did.
    #[serde(default)]
    pub from_another_pack: u64,
}

/// What a fetch would read.
#[derive(Clone, Debug, Default)]
pub struct FetchPlan {
    /// Packs that would be touched.
    pub packs: u64,
    /// Frames that would be read.
    pub frames: u64,
    /// Bytes that would be read from the store.
    pub bytes_to_fetch: u64,
    /// Bytes of the extents, each occurrence counted.
    pub bytes: u64,
    /// Zero extents.
    pub zero_extents: u64,
    /// Extents that no pack holds: these cannot be restored.
    pub missing: Vec<ExtentId>,
}

#[derive(Copy, Clone)]
struct Task {
    at: Location,
    token: u64,
    id: ExtentId,
    what: What,
}

/// What is at a task's location.
#[derive(Copy, Clone)]
enum What {
    /// The extent.
    Whole,
    /// The base of its delta, which is at this place among those in memory and in this pack; bytes of the extent.
    Base { delta: usize, pack: u32, length: u32 },
    /// Its delta, which is given to the sink as it is.
    Delta,
}

/// An extent that is stored as a difference.
struct Different {
    base: FoundBase,
    at: Location,
    token: u64,
    id: ExtentId,
}

/// What was read, and what has to be read elsewhere.
#[derive(Default)]
struct Outcome {
    stats: FetchStats,
    refused: Vec<Refused>,
}

/// An extent that a directory's pack does not give.
struct Refused {
    wanted: WantedExtent,
    /// The directory's place in the index.
    place: u32,
}

/// Tasks `first..end` (sorted) whose frames are adjacent in one pack.
struct Range {
    pack: usize,
    tasks: std::ops::Range<usize>,
    start: u64,
    length: u64,
}

impl Repository {
    /// What fetching `wanted` would read, and what is missing. Nothing but the index is read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn plan_fetch(&self, wanted: &[ExtentId]) -> Result<FetchPlan> {
        let mut index = self.load_index(false).await?;
        if wanted.iter().any(|id| !id.is_zero() && index.locate(id).is_none()) {
            index = self.load_index(true).await?;
        }
        let mut plan = FetchPlan::default();
        let mut places = Vec::with_capacity(wanted.len());
        for id in wanted {
            if id.is_zero() {
                plan.zero_extents += 1;
            } else if let Some(Found { at, base }) = index.locate(id) {
                plan.bytes += u64::from(base.map_or(at.length, |base| base.length));
                let bases = base.map(|base| base.at);
                places.extend(bases.into_iter().chain([at]).map(|at| (at.pack, at.frame)));
            } else {
                plan.missing.push(*id);
            }
        }
        places.sort_unstable();
        places.dedup();
        plan.missing.sort_unstable();
        plan.missing.dedup();
        let mut last = None;
        for (pack, frame) in places {
            plan.frames += 1;
            if last.replace(pack) != Some(pack) {
                plan.packs += 1;
            }
            let at = Location { pack, frame, offset: 0, length: 0 };
            let stored = index.pack(at).and_then(|p| p.frames.get(frame as usize));
            plan.bytes_to_fetch += stored.map_or(0, |frame| frame.stored());
        }
        Ok(plan)
    }

    /// Reads `wanted` and gives each to `sink`; zero extents are left to the caller, whose files
    /// have their size already. A needed frame is read once, but where deltas are so many that they are read in
    /// rounds: there the one at the border may be read again. Memory is bounded by `parallelism` times a few
    /// megabytes and 32 MiB of deltas, beside `wanted` itself.
    ///
    /// # Errors
    /// [`RepositoryError::Corrupt`] names the pack and the consequence, where no other pack has what it does not
    /// give; an extent that no pack holds is found before the sink is called at all.
    pub async fn fetch_extents(
        &self,
        wanted: Vec<WantedExtent>,
        parallelism: usize,
        sink: Arc<dyn ExtentSink>,
        cancel: &CancellationToken,
    ) -> Result<FetchStats> {
        if !self.can_read() {
            return Err(RepositoryError::KeyRequired { operation: "fetching extents" });
        }
        let mut index = self.load_index(false).await?;
        if wanted.iter().any(|w| !w.id.is_zero() && index.locate(&w.id).is_none()) {
            index = self.load_index(true).await?;
        }
        let refused = HashSet::new();
        Fetch { repository: self, index, parallelism, cancel, refused }.run(wanted, sink).await
    }
}

/// One fetch.
struct Fetch<'a> {
    repository: &'a Repository,
    index: Arc<Index>,
    /// Ranged reads at once.
    parallelism: usize,
    cancel: &'a CancellationToken,
    /// Places in the index of directories whose packs did not give what they say.
    refused: HashSet<u32>,
}

impl Fetch<'_> {
    /// Reads what is wanted; what one pack does not give, from another that says to have it.
    async fn run(
        mut self,
        wanted: Vec<WantedExtent>,
        sink: Arc<dyn ExtentSink>,
    ) -> Result<FetchStats> {
        let mut outcome = self.round(wanted, &sink).await?;
        let mut stats = outcome.stats;
        // Ends: each round refuses another directory.
        while !outcome.refused.is_empty() {
            for Refused { place, .. } in &outcome.refused {
                if self.refused.insert(*place)
                    && let Ok(pack) = self.index.packs_at(*place as usize)
                {
                    tracing::warn!(pack = %pack.id, "does not give what its directory says");
                }
            }
            let again: Vec<WantedExtent> =
                outcome.refused.iter().map(|refused| refused.wanted).collect();
            outcome = self.round(again, &sink).await?;
            stats.from_another_pack += outcome.stats.extents;
            stats.add(&outcome.stats);
        }
        Ok(stats)
    }

    /// How an extent is got, as far as is known by now.
    fn locate(&self, id: &ExtentId) -> Option<Found> {
        self.index.locate_without(id, &self.refused)
    }

    async fn round(
        &self,
        wanted: Vec<WantedExtent>,
        sink: &Arc<dyn ExtentSink>,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut whole = Vec::with_capacity(wanted.len());
        let mut different = Vec::new();
        for WantedExtent { id, token } in wanted {
            if id.is_zero() {
                outcome.stats.zero_extents += 1;
                continue;
            }
            let found = self.locate(&id).ok_or_else(|| missing(&self.index, &id))?;
            let Found { at, base } = found;
            match base {
                None => whole.push(Task { at, token, id, what: What::Whole }),
                Some(base) => different.push(Different { base, at, token, id }),
            }
        }
        // Bases in the order in which they are read, beside the extents that are whole.
        whole.sort_unstable_by_key(|task| task.at);
        different.sort_unstable_by_key(|different| different.base.at);
        let mut different = different.into_iter().peekable();
        loop {
            let mut bytes = 0;
            let mut round = Vec::new();
            while let Some(next) =
                different.next_if(|next| bytes + next.at.length as usize <= DELTA_BYTES)
            {
                bytes += next.at.length as usize;
                round.push(next);
            }
            let deltas = self.deltas(&round, &mut outcome.stats).await?;
            let later = match (different.peek(), round.last()) {
                (Some(_), Some(last)) => {
                    let end = (last.base.at.pack, last.base.at.frame);
                    whole.partition_point(|task| (task.at.pack, task.at.frame) <= end)
                }
                _ => whole.len(),
            };
            let later = whole.split_off(later);
            let mut tasks = std::mem::replace(&mut whole, later);
            tasks.extend(round.iter().enumerate().map(|(delta, different)| {
                let Different { base, at, token, id } = *different;
                let what = What::Base { delta, pack: at.pack, length: base.length };
                Task { at: base.at, token, id, what }
            }));
            outcome.add(self.tasks(tasks, deltas, Arc::clone(sink)).await?);
            if different.peek().is_none() {
                return Ok(outcome);
            }
        }
    }

    /// Reads deltas, in the order of `round`; one that its pack does not give, and that can be had otherwise,
    /// is empty. They count as read, not as extents.
    async fn deltas(&self, round: &[Different], stats: &mut FetchStats) -> Result<Vec<Bytes>> {
        let tasks: Vec<Task> = (0..)
            .zip(round)
            .map(|(token, d)| Task { at: d.at, token, id: d.id, what: What::Delta })
            .collect();
        let kept = Kept::places(round.len());
        let sink: Arc<dyn ExtentSink> = Arc::<Kept>::clone(&kept);
        let done = self.tasks(tasks, Vec::new(), sink).await?.stats;
        stats.add(&FetchStats { extents: 0, bytes: 0, ..done });
        Ok(kept.take())
    }

    async fn tasks(
        &self,
        mut tasks: Vec<Task>,
        deltas: Vec<Bytes>,
        sink: Arc<dyn ExtentSink>,
    ) -> Result<Outcome> {
        tasks.sort_unstable_by_key(|task| task.at);
        let tasks = Arc::new(Tasks { tasks, deltas });
        let ranges = Ranges { index: Arc::clone(&self.index), tasks: Arc::clone(&tasks), next: 0 };
        let mut running = futures_util::stream::iter(ranges)
            .map(|range| {
                let (tasks, sink) = (Arc::clone(&tasks), Arc::clone(&sink));
                async move { self.range(range?, tasks, sink).await }
            })
            .buffer_unordered(self.parallelism.max(1));
        let mut outcome = Outcome::default();
        while let Some(done) = running.try_next().await? {
            outcome.add(done);
        }
        Ok(outcome)
    }

    async fn range(
        &self,
        range: Range,
        tasks: Arc<Tasks>,
        sink: Arc<dyn ExtentSink>,
    ) -> Result<Outcome> {
        let index = Arc::clone(&self.index);
        let pack = index.packs_at(range.pack)?;
        let path = pack.id.path();
        let read = self.repository.inner.store.get_range(&path, range.start, range.length);
        let bytes = tokio::select! {
            // Cancelled before it began: nothing is read, however fast the store.
            biased;
            () = self.cancel.cancelled() => return Err(RepositoryError::Cancelled),
            bytes = read => bytes,
        };
        let (inner, refused) = (Arc::clone(&self.repository.inner), self.refused.clone());
        tokio::task::spawn_blocking(move || {
            let pack = index.packs_at(range.pack)?;
            let opened = bytes.and_then(|bytes| {
                let content = ContentReader::new(
                    &inner.writer,
                    inner.reader.as_ref(),
                    &path,
                    &pack.header,
                    // Content sealed to the public key takes no part from the salt.
                    &[0; 32],
                    pack.frames.to_vec(),
                )?;
                Ok((bytes, content))
            });
            let mut given = Given { index: &index, refused, outcome: Outcome::default() };
            let (bytes, content) = match opened.map_err(|error| lost(&path, error)) {
                Ok(opened) => opened,
                Err(RepositoryError::Corrupt { object, what }) => {
                    for task in &tasks.tasks[range.tasks] {
                        let error = RepositoryError::corrupt(&object, what.clone());
                        given.refuse(task, task.at.pack, error)?;
                    }
                    return Ok(given.outcome);
                }
                Err(error) => return Err(error),
            };
            given.outcome.stats.bytes_fetched = bytes.len() as u64;
            given.outcome.stats.requests = 1;
            let mut current: Option<(u32, Vec<u8>)> = None;
            for task in &tasks.tasks[range.tasks] {
                let frame = match current.take() {
                    Some((number, raw)) if number == task.at.frame => (number, raw),
                    _ => {
                        let number = task.at.frame as usize;
                        let raw = content
                            .slice(number, &bytes, range.start)
                            .and_then(|stored| content.frame(&inner.codec, number, stored));
                        match raw {
                            Ok(raw) => (task.at.frame, raw),
                            Err(error) => {
                                given.refuse(task, task.at.pack, lost(&path, error))?;
                                continue;
                            }
                        }
                    }
                };
                let start = task.at.offset as usize;
                let stored = frame.1.get(start..start.saturating_add(task.at.length as usize));
                let made = match task.what {
                    What::Whole | What::Delta => None,
                    What::Base { delta, length, .. } => stored
                        .zip(tasks.deltas.get(delta))
                        .and_then(|(base, delta)| delta::apply(base, delta, length as usize)),
                };
                let named = |bytes: &&[u8]| inner.writer.extent_id(bytes) == task.id;
                let extent = match task.what {
                    What::Whole => stored.filter(named),
                    What::Base { .. } => made.as_deref().filter(named),
                    // What it makes has to have the name.
                    What::Delta => stored,
                };
                match (extent, task.what) {
                    (Some(extent), _) => {
                        sink.write(task.token, &task.id, extent)
                            .map_err(|source| RepositoryError::Sink { source })?;
                        given.outcome.stats.extents += 1;
                        given.outcome.stats.bytes += extent.len() as u64;
                    }
                    (None, What::Whole | What::Delta) => {
                        given.refuse(task, task.at.pack, misnamed(&path, &task.id))?;
                    }
                    (None, What::Base { pack, .. }) => {
                        given.refuse(task, pack, mismade(&index, pack, &task.id, &path))?;
                    }
                }
                current = Some(frame);
            }
            Ok(given.outcome)
        })
        .await
        .map_err(RepositoryError::worker)?
    }
}

/// What one range gives.
struct Given<'a> {
    index: &'a Index,
    /// Of the rounds before.
    refused: HashSet<u32>,
    outcome: Outcome,
}

impl Given<'_> {
    /// Leaves an extent to the next round, when it can be had without the directory at `place`.
    ///
    /// # Errors
    /// `error` when it cannot.
    fn refuse(&mut self, task: &Task, place: u32, error: RepositoryError) -> Result<()> {
        let mut without = self.refused.clone();
        without.insert(place);
        let elsewhere = matches!(error, RepositoryError::Corrupt { .. })
            && self.index.locate_without(&task.id, &without).is_some();
        if !elsewhere {
            return Err(error);
        }
        let wanted = WantedExtent { id: task.id, token: task.token };
        self.outcome.refused.push(Refused { wanted, place });
        Ok(())
    }
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.stats.add(&other.stats);
        self.refused.extend(other.refused);
    }
}

impl FetchStats {
    fn add(&mut self, done: &Self) {
        self.extents += done.extents;
        self.bytes += done.bytes;
        self.zero_extents += done.zero_extents;
        self.bytes_fetched += done.bytes_fetched;
        self.requests += done.requests;
        self.from_another_pack += done.from_another_pack;
    }
}

/// An extent that is not what its name says.
fn misnamed(pack: &str, id: &ExtentId) -> RepositoryError {
    let consequence = ObjectKind::Pack.consequence();
    RepositoryError::corrupt(pack, format!("extent {id} is not what its name says; {consequence}"))
}

/// A delta that makes something else than its name says. Its own pack is named: the base has a name that can be
/// checked by itself.
fn mismade(index: &Index, pack: u32, id: &ExtentId, base: &str) -> RepositoryError {
    let consequence = ObjectKind::Pack.consequence();
    let pack = match index.packs_at(pack as usize) {
        Ok(pack) => pack.id.path(),
        Err(error) => return error,
    };
    let what = format!("extent {id}, made from its base in {base}, is not what its name says");
    RepositoryError::corrupt(pack, format!("{what}; {consequence}"))
}

/// Reads extents a few at a time, by the index as it was when the reader was made: nothing is listed
/// again for each read.
#[derive(Clone, Debug)]
pub struct ExtentReader {
    repository: Repository,
    index: Arc<Index>,
    cancel: CancellationToken,
}

/// Keeps what a read brings, in the order of the request.
struct Kept(Mutex<Vec<Bytes>>);

impl Kept {
    fn places(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![Bytes::new(); count])))
    }

    fn take(&self) -> Vec<Bytes> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ExtentSink for Kept {
    fn write(&self, token: u64, _: &ExtentId, bytes: &[u8]) -> Result<(), SinkError> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = usize::try_from(token).ok().and_then(|n| kept.get_mut(n)) {
            *place = Bytes::copy_from_slice(bytes);
        }
        Ok(())
    }
}

impl Repository {
    /// A reader of extents by the index of now.
    ///
    /// # Errors
    /// [`RepositoryError::KeyRequired`] without the right to read, and what the store says.
    pub async fn extent_reader(&self) -> Result<ExtentReader> {
        if !self.can_read() {
            return Err(RepositoryError::KeyRequired { operation: "reading extents" });
        }
        let index = self.load_index(false).await?;
        Ok(ExtentReader::by_index(self, &index, &CancellationToken::new()))
    }
}

impl ExtentReader {
    /// One that reads by this index, until `cancel`.
    pub(crate) fn by_index(
        repository: &Repository,
        index: &Arc<Index>,
        cancel: &CancellationToken,
    ) -> Self {
        let (repository, index) = (repository.clone(), Arc::clone(index));
        Self { repository, index, cancel: cancel.clone() }
    }

    /// Whether a pack that is there holds the extent. The zero extent needs none.
    pub fn holds(&self, id: &ExtentId) -> bool {
        id.is_zero() || self.index.locate(id).is_some()
    }

    /// The pack that holds the extent whole.
    pub(crate) fn whole_in(&self, id: &ExtentId) -> Option<PackId> {
        let at = self.index.whole_outside(id, &HashSet::new())?;
        self.index.pack(at).map(|pack| pack.id)
    }

    fn fetch(&self) -> Fetch<'_> {
        Fetch {
            repository: &self.repository,
            index: Arc::clone(&self.index),
            parallelism: READS_IN_FLIGHT,
            cancel: &self.cancel,
            refused: HashSet::new(),
        }
    }

    /// The extents' bytes in the order of `ids`, empty for the zero extent. All of them are in memory
    /// together: ask for a few megabytes.
    ///
    /// # Errors
    /// As [`Repository::fetch_extents`].
    pub async fn read(&self, ids: &[ExtentId]) -> Result<Vec<Bytes>> {
        let wanted =
            ids.iter().zip(0..).map(|(id, token)| WantedExtent { id: *id, token }).collect();
        let kept = Kept::places(ids.len());
        self.fetch().run(wanted, Arc::<Kept>::clone(&kept)).await?;
        Ok(kept.take())
    }

    /// As [`ExtentReader::read`], with what a difference from each extent would be made from: so that nothing is
    /// read twice. Twice the memory.
    ///
    /// # Errors
    /// As [`Repository::fetch_extents`].
    pub async fn read_old(&self, ids: &[ExtentId]) -> Result<Vec<OldExtent>> {
        let mut bases = Vec::with_capacity(ids.len());
        let mut different = Vec::new();
        for (token, id) in (0..).zip(ids) {
            let found = self.index.locate(id).filter(|_| !id.is_zero());
            if let Some(Found { at, base: Some(base) }) = found {
                bases.push(base.id);
                different.push(Different { base, at, token, id: *id });
            } else {
                bases.push(*id);
            }
        }
        let read = self.read(&bases).await?;
        let mut stats = FetchStats::default();
        let deltas = self.fetch().deltas(&different, &mut stats).await?;
        let mut old: Vec<OldExtent> = ids
            .iter()
            .zip(bases.into_iter().zip(read))
            .map(|(id, (base, bytes))| OldExtent::read(*id, bytes.clone(), base, bytes))
            .collect();
        let (inner, index) = (Arc::clone(&self.repository.inner), Arc::clone(&self.index));
        tokio::task::spawn_blocking(move || {
            for (Different { base, at, token, id }, delta) in different.into_iter().zip(deltas) {
                let Some(old) = usize::try_from(token).ok().and_then(|n| old.get_mut(n)) else {
                    continue;
                };
                let made = delta::apply(old.bytes(), &delta, base.length as usize)
                    .filter(|made| inner.writer.extent_id(made) == id);
                let path = index.packs_at(base.at.pack as usize)?.id.path();
                let made = made.ok_or_else(|| mismade(&index, at.pack, &id, &path))?;
                old.set_bytes(made.into());
            }
            Ok(old)
        })
        .await
        .map_err(RepositoryError::worker)?
    }
}

impl Index {
    fn packs_at(&self, pack: usize) -> Result<&Pack> {
        u32::try_from(pack)
            .ok()
            .and_then(|pack| self.pack(Location { pack, frame: 0, offset: 0, length: 0 }))
            .ok_or_else(|| RepositoryError::worker("the index changed during a fetch"))
    }
}

/// What is read in one go.
struct Tasks {
    /// In the order of their locations.
    tasks: Vec<Task>,
    /// In memory: applied to their bases as these are read.
    deltas: Vec<Bytes>,
}

/// Cuts sorted tasks into ranged reads, one at a time.
struct Ranges {
    index: Arc<Index>,
    tasks: Arc<Tasks>,
    next: usize,
}

impl Iterator for Ranges {
    type Item = Result<Range>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.tasks.tasks.get(self.next)?;
        let begin = self.next;
        let frames = match self.index.packs_at(first.at.pack as usize) {
            Ok(pack) => &pack.frames,
            Err(error) => {
                self.next = self.tasks.tasks.len();
                return Some(Err(error));
            }
        };
        // Positions come from directories that were checked when the index was loaded.
        let start = frames.get(first.at.frame as usize).map_or(0, |f| f.offset());
        let mut end = frames.get(first.at.frame as usize).map_or(0, |f| f.end());
        let mut frame = first.at.frame;
        while let Some(task) = self.tasks.tasks.get(self.next) {
            if task.at.pack != first.at.pack {
                break;
            }
            if task.at.frame != frame {
                let Some(next) = frames.get(task.at.frame as usize) else { break };
                let adjacent = task.at.frame == frame.saturating_add(1);
                if !adjacent || next.end().saturating_sub(start) > RANGE_BYTES {
                    break;
                }
                frame = task.at.frame;
                end = next.end();
            }
            self.next += 1;
        }
        Some(Ok(Range {
            pack: first.at.pack as usize,
            tasks: begin..self.next,
            start,
            length: end.saturating_sub(start),
        }))
    }
}

fn missing(index: &Index, id: &ExtentId) -> RepositoryError {
    let consequence = ObjectKind::Pack.consequence();
    if let Some(pack) = index.lost_pack_of(id) {
        return RepositoryError::corrupt(
            pack.path(),
            format!("it is missing or cut short and holds extent {id}; {consequence}"),
        );
    }
    let reason = match index.damaged() {
        [] => String::new(),
        [first, ..] => format!(" (an index object is damaged: {first})"),
    };
    RepositoryError::corrupt(
        crate::index::INDEX_PREFIX,
        format!("no pack holds extent {id}{reason}; {consequence}"),
    )
}

/// A pack that cannot be used says what it costs.
fn lost(path: &str, error: RepositoryError) -> RepositoryError {
    let consequence = ObjectKind::Pack.consequence();
    match error {
        RepositoryError::NotFound { .. } => {
            RepositoryError::corrupt(path, format!("it is missing; {consequence}"))
        }
        RepositoryError::Corrupt { what, .. } => {
            RepositoryError::corrupt(path, format!("{what}; {consequence}"))
        }
        other => other,
    }
}
