//! Replicas: the same repository in another store.
//!
//! A replica has the id and the keys of its source, and the same objects under the same names: whoever has a
//! key to one opens the other. Content is copied before what refers to it, with a barrier between, so that what
//! a replica names is in it at every moment, and WAL in its order, so that it has no hole; the first time
//! `holdfast.json` comes last. An object is authenticated before it is sent, and read back afterwards. Nothing
//! is taken away from a replica because it is gone from the source, but for ways in that were closed, parts of
//! WAL segments that it has whole, and what the source says was removed on purpose.

mod leave;
mod order;
mod pace;
mod stage;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::error::{RepositoryError, Result};
use crate::object::ObjectEntry;
use crate::repository::{Repository, read_root};
use crate::root::{KEYS_PREFIX, RootDocument};
use crate::signed::MAX_SIGNED_BYTES;
use crate::slots::parse_slot_path;
use crate::store::Store;
use crate::verify::object::{Checked, Depth, Known, WHOLE_BYTES, check, check_whole};
use crate::verify::{Key, in_folder, read_key};
use order::{Order, Turn};
use pace::Pace;
use stage::{FIRST, Stage};

/// Objects under way at a time.
const IN_FLIGHT: usize = 4;
/// So often WAL is listed again because slices were sealed while they were copied.
const LISTINGS: usize = 5;
/// An object that is too long to be in memory is copied in pieces of this size.
const PIECE_BYTES: u64 = 8 * 1024 * 1024;

/// Why an object is not replaced by another one of its name.
const DIVERGED: &str =
    "the replica has another one of this name, which is whole: somebody writes to both";

/// How a replica is brought up to date.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReplicaOptions {
    /// Bytes a second that may be sent; no limit when none is given. What is read back does not count.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Objects that were removed from the source on purpose: they are removed from the replica too, unless
    /// somebody holds a lease there.
    pub removed: Arc<BTreeSet<String>>,
}

impl ReplicaOptions {
    /// With a limit of bytes a second.
    #[must_use]
    pub fn with_bytes_per_second(mut self, limit: Option<NonZeroU64>) -> Self {
        self.bytes_per_second = limit;
        self
    }

    /// With what was removed from the source on purpose.
    #[must_use]
    pub fn with_removed(mut self, objects: Arc<BTreeSet<String>>) -> Self {
        self.removed = objects;
        self
    }
}

/// What a replica lacks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Behind {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest of them was stored, by the clock of the source's store.
    pub since: Option<DateTime<Utc>>,
}

impl Behind {
    fn add(&mut self, entry: &ObjectEntry) {
        self.objects += 1;
        self.bytes += entry.size;
        self.since = Some(self.since.map_or(entry.modified, |since| since.min(entry.modified)));
    }
}

/// What was not copied, because it is damaged or needs something that is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldBack {
    /// Path in the repository.
    pub object: String,
    /// Why.
    pub what: String,
}

/// What bringing a replica up to date came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replicated {
    /// Objects that were copied and read back.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were removed from the replica: slots that were closed, parts of segments that are whole, what
    /// was removed from the source on purpose.
    pub removed: u64,
    /// Objects that were removed from the source and are locked in the replica's store for a while yet.
    pub locked: u64,
    /// Who holds a lease in the replica, so that what was removed from the source stays there for now.
    pub waiting: Option<String>,
    /// What was not copied, in order of its name.
    pub held_back: Vec<HeldBack>,
    /// What it lacks now, by listings that were made when all else was done.
    pub behind: Behind,
    /// Objects that it has and the source lacks: somebody writes to it, or the source has lost them. Ways in
    /// are neither added nor removed then.
    pub ahead: u64,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReplicaProgress {
    /// Bytes copied and read back.
    pub bytes_done: u64,
    /// Bytes to copy.
    pub bytes_total: u64,
}

/// The same repository in another store.
#[derive(Debug)]
pub struct Replica<'a> {
    source: &'a Repository,
    copy: Repository,
}

/// What one object came to.
enum Outcome {
    Copied,
    /// It is not there any more, or nobody needs it.
    Gone,
    HeldBack(String),
}

/// What lists of files are checked against; none for other objects.
type Extents = Option<Arc<Known>>;

impl<'a> Replica<'a> {
    /// Looks whether `to` is a replica of `source`, or may become one: when nothing is there, or only what a
    /// first copy has left that was interrupted.
    ///
    /// # Errors
    /// [`RepositoryError::Occupied`] when something else is there; [`RepositoryError::KeyRequired`] without the
    /// repository key.
    pub async fn open(source: &'a Repository, to: Store) -> Result<Self> {
        let occupied =
            |what: String| RepositoryError::Occupied { location: to.location().to_owned(), what };
        match read_root(&to).await {
            Ok(root) if root == source.inner.root => {}
            Ok(root) => return Err(occupied(format!("the repository {}", root.repository))),
            Err(RepositoryError::NotARepository { .. }) => {
                let there = to.list("").await?;
                if !there.is_empty() {
                    let own: HashSet<_> =
                        source.store().list("").await?.into_iter().map(|e| e.path).collect();
                    for entry in there {
                        let known = own.contains(&entry.path) || stage::is_slice(&entry.path);
                        if !known && !is_own_key(source, &to, &entry.path).await? {
                            return Err(occupied(format!("{}, for one", entry.path)));
                        }
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(Self { source, copy: source.at(to)? })
    }

    /// What it lacks now.
    ///
    /// # Errors
    /// When one of the stores cannot be listed.
    pub async fn behind(&self) -> Result<Behind> {
        let there = self.there().await?;
        let mut behind = Behind::default();
        for (_, entry) in self.listed().await? {
            if !has(&there, &entry) {
                behind.add(&entry);
            }
        }
        Ok(behind)
    }

    /// Takes the place with what opens the repository and certifies its writers, before anything else is there:
    /// from then on it is told from an empty place.
    ///
    /// # Errors
    /// As [`Replica::update`].
    pub async fn begin(&self, cancel: &CancellationToken) -> Result<()> {
        let mut run = Run {
            replica: self,
            pace: Pace::new(None),
            progress: &|_| {},
            cancel,
            there: self.there().await?,
            now: ReplicaProgress::default(),
            done: Replicated::default(),
        };
        let mut keys = self.source.store().list(KEYS_PREFIX).await?;
        keys.retain(|entry| Stage::of(&entry.path).is_some() && !has(&run.there, entry));
        run.stage(Stage::Key, keys, &None).await.map(drop)
    }

    /// Brings it up to date with what is there now. What is found damaged is not copied, nor what needs it;
    /// everything else is.
    ///
    /// # Errors
    /// When a store fails, or what was written is not what is read back: [`RepositoryError::Corrupt`] with the
    /// replica's name. What was copied and read back until then is not copied again.
    pub async fn update(
        &self,
        options: ReplicaOptions,
        progress: &(dyn Fn(ReplicaProgress) + Send + Sync),
        cancel: &CancellationToken,
    ) -> Result<Replicated> {
        // What a killed copy has left on a file system may not be durable, and is taken for copied below.
        self.copy.store().settle("").await?;
        let mut listed = self.listed().await?;
        let there = self.there().await?;
        let own: HashSet<&str> = listed.iter().map(|(_, entry)| entry.path.as_str()).collect();
        let ahead = there
            .keys()
            .filter(|path| is_ahead(path, &own) && !options.removed.contains(*path))
            .count() as u64;
        if ahead > 0 {
            listed.retain(|(stage, entry)| *stage != Stage::Key || !is_slot(&entry.path));
        }
        let mut run = Run {
            replica: self,
            pace: Pace::new(options.bytes_per_second),
            progress,
            cancel,
            there,
            now: ReplicaProgress::default(),
            done: Replicated { ahead, ..Replicated::default() },
        };
        let mut stages = BTreeMap::<Stage, Vec<ObjectEntry>>::new();
        for (stage, entry) in &listed {
            if !has(&run.there, entry) {
                run.now.bytes_total += entry.size;
                stages.entry(*stage).or_default().push(entry.clone());
            }
        }
        progress(run.now);
        for (stage, entries) in stages {
            let extents = match stage {
                Stage::Files => Some(Arc::new(self.extents(&run.there).await?)),
                _ => None,
            };
            let gone = run.stage(stage, entries, &extents).await?;
            if stage == Stage::Content && gone > 0 {
                run.follow_the_archive().await?;
            }
        }
        let Run { there, mut done, .. } = run;
        done.removed = self.remove_superfluous(&listed, &there, ahead == 0).await?;
        self.remove_removed(&listed, &there, &options.removed, cancel, &mut done).await?;
        done.behind = self.behind().await?;
        done.held_back.sort_by(|a, b| a.object.cmp(&b.object));
        Ok(done)
    }

    /// What is to be in a replica, with the stage of each.
    async fn listed(&self) -> Result<Vec<(Stage, ObjectEntry)>> {
        let store = self.source.store();
        let mut listed = Vec::new();
        for folder in FIRST {
            listed.extend(store.list(folder).await?);
        }
        let apart =
            |path: &str| FIRST.iter().chain([&KEYS_PREFIX]).any(|folder| in_folder(path, folder));
        listed.extend(store.list("").await?.into_iter().filter(|entry| !apart(&entry.path)));
        // Whoever has written what is listed by now was certified before.
        listed.extend(store.list(KEYS_PREFIX).await?);
        Ok(listed.into_iter().filter_map(|entry| Some((Stage::of(&entry.path)?, entry))).collect())
    }

    /// What it has, with the sizes.
    async fn there(&self) -> Result<HashMap<String, u64>> {
        let there = self.copy.store().list("").await?;
        Ok(there.into_iter().map(|entry| (entry.path, entry.size)).collect())
    }

    /// The extents that are in packs of the replica; `there` is what it has by then.
    async fn extents(&self, there: &HashMap<String, u64>) -> Result<Known> {
        let index = self.source.load_index(true).await?;
        let lacking = index.packs().filter(|pack| !there.contains_key(&pack.path())).collect();
        Ok(Known { index, damaged: lacking })
    }

    /// Copies one object and reads it back; it is written when its turn has come.
    async fn one(
        &self,
        stage: Stage,
        entry: &ObjectEntry,
        extents: &Extents,
        there: &HashMap<String, u64>,
        pace: &Pace,
        turn: Turn<'_>,
    ) -> Result<Outcome> {
        let path = entry.path.as_str();
        if entry.size > WHOLE_BYTES {
            return self.long(stage, entry, extents, there, pace, turn).await;
        }
        let bytes = match self.source.store().get_limited(path, WHOLE_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => return missing(path, error),
        };
        match self.authenticate(stage, path, &bytes, extents, there).await {
            Ok(Outcome::Copied) => {}
            Ok(other) => return Ok(other),
            Err(error) => return damaged(error),
        }
        let copy = self.copy.store();
        let replaces = there.contains_key(path);
        if replaces && self.is_whole(stage, path, extents, there).await? {
            return Ok(Outcome::HeldBack(DIVERGED.to_owned()));
        }
        pace.wait_for(bytes.len() as u64).await;
        turn.come().await;
        if replaces {
            copy.put_replacing(path, bytes.clone()).await?;
        } else if let Err(error) = copy.put_new(path, bytes.clone()).await {
            let RepositoryError::AlreadyExists { .. } = error else { return Err(error) };
            // Somebody else copies too, or writes here.
            return match self.is_whole(stage, path, extents, there).await? {
                true if stage::is_slice(path) => Ok(Outcome::Copied),
                true => Ok(Outcome::HeldBack(DIVERGED.to_owned())),
                false => Err(self.not_what_was_sent(path)),
            };
        }
        turn.pass().await;
        match copy.get_limited(path, WHOLE_BYTES).await {
            Ok(back) if back == bytes => Ok(Outcome::Copied),
            Ok(_) => Err(self.take_back(path).await),
            Err(error) => {
                // What was not read back must not be taken for copied the next time.
                let _ = self.take_back(path).await;
                Err(error)
            }
        }
    }

    /// Removes what was written and is not what was sent, and says so.
    async fn take_back(&self, path: &str) -> RepositoryError {
        if let Err(error) = self.copy.store().delete(path).await {
            tracing::warn!(%path, %error, "what was not read back stays in a replica");
        }
        self.not_what_was_sent(path)
    }

    /// Whether what the replica has under this name is authentic, though not as long as at the source: then
    /// somebody writes to both. What was cut short is not.
    async fn is_whole(
        &self,
        stage: Stage,
        path: &str,
        extents: &Extents,
        there: &HashMap<String, u64>,
    ) -> Result<bool> {
        let outcome = async {
            let store = self.copy.store();
            if matches!(stage, Stage::Key | Stage::Root) {
                let bytes = store.get_limited(path, MAX_SIGNED_BYTES).await?;
                return self.authenticate(stage, path, &bytes, extents, there).await;
            }
            let entry = store.head(path).await?;
            let known = extents.clone();
            check(&self.copy, Depth::Structure, &entry, known).await?;
            Ok(Outcome::Copied)
        };
        match outcome.await {
            Ok(outcome) => Ok(matches!(outcome, Outcome::Copied)),
            Err(error) if is_damage(&error) => Ok(false),
            Err(RepositoryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn not_what_was_sent(&self, path: &str) -> RepositoryError {
        let location = self.copy.store().location().trim_end_matches('/');
        RepositoryError::corrupt(
            format!("{location}/{path}"),
            "what is read back is not what was written: do not rely on this store",
        )
    }

    /// Whether an object may be copied.
    async fn authenticate(
        &self,
        stage: Stage,
        path: &str,
        bytes: &Bytes,
        extents: &Extents,
        there: &HashMap<String, u64>,
    ) -> Result<Outcome> {
        if stage == Stage::Root {
            return Ok(if RootDocument::parse(bytes)? == self.source.inner.root {
                Outcome::Copied
            } else {
                Outcome::HeldBack("it was replaced".to_owned())
            });
        }
        if in_folder(path, KEYS_PREFIX) {
            if bytes.len() as u64 > MAX_SIGNED_BYTES {
                return Err(RepositoryError::corrupt(path, "it is too long"));
            }
            return Ok(match read_key(path, bytes, &self.source.inner.root)? {
                // What another creation has left opens nothing anywhere.
                Key::Slot | Key::Certificate | Key::LeftBehind => Outcome::Copied,
                Key::Stranger => Outcome::HeldBack("it is no key".to_owned()),
            });
        }
        let known = extents.clone();
        // By the certificates that the replica has: with them alone it has to be read one day.
        let checked = check_whole(&self.copy, Depth::Structure, path, bytes.clone(), known).await?;
        Ok(judged(stage, checked, there))
    }

    /// Copies an object in pieces.
    async fn long(
        &self,
        stage: Stage,
        entry: &ObjectEntry,
        extents: &Extents,
        there: &HashMap<String, u64>,
        pace: &Pace,
        turn: Turn<'_>,
    ) -> Result<Outcome> {
        let path = entry.path.as_str();
        let known = extents.clone();
        match check(self.source, Depth::Structure, entry, known.clone()).await {
            Ok(checked) => match judged(stage, checked, there) {
                Outcome::Copied => {}
                other => return Ok(other),
            },
            Err(error @ RepositoryError::NotFound { .. }) => return missing(path, error),
            Err(error) => return damaged(error),
        }
        // An upload in parts replaces whatever is there, so that is looked at last.
        if self.is_whole(stage, path, extents, there).await? {
            let size = self.copy.store().size(path).await?;
            return Ok(if size == entry.size {
                Outcome::Copied
            } else {
                Outcome::HeldBack(DIVERGED.to_owned())
            });
        }
        turn.come().await;
        let mut upload = self.copy.store().begin_parts(path).await?;
        let mut start = 0;
        while start < entry.size {
            let length = PIECE_BYTES.min(entry.size - start);
            let piece = self.source.store().get_range(path, start, length).await?;
            pace.wait_for(length).await;
            upload.part(piece).await?;
            start += length;
        }
        upload.complete().await?;
        turn.pass().await;
        match check(&self.copy, Depth::Structure, entry, known).await {
            Ok(_) => Ok(Outcome::Copied),
            Err(error) if is_damage(&error) => Err(self.take_back(path).await),
            Err(error) => {
                let _ = self.take_back(path).await;
                Err(error)
            }
        }
    }
}

/// A replica being brought up to date.
struct Run<'a> {
    replica: &'a Replica<'a>,
    pace: Pace,
    progress: &'a (dyn Fn(ReplicaProgress) + Send + Sync),
    cancel: &'a CancellationToken,
    /// What the replica has, with the sizes.
    there: HashMap<String, u64>,
    now: ReplicaProgress,
    done: Replicated,
}

impl Run<'_> {
    /// Copies the objects of one stage; gives how many had gone.
    async fn stage(
        &mut self,
        stage: Stage,
        mut entries: Vec<ObjectEntry>,
        extents: &Extents,
    ) -> Result<u64> {
        let order = Order::of(&mut entries);
        let (replica, cancel) = (self.replica, self.cancel);
        let (pace, there) = (&self.pace, &self.there);
        let mut running = futures_util::stream::iter(entries.into_iter().enumerate())
            .map(async |(number, entry)| {
                let turn = order.turn(number);
                let outcome = tokio::select! {
                    () = cancel.cancelled() => return Err(RepositoryError::Cancelled),
                    outcome = replica.one(stage, &entry, extents, there, pace, turn) => outcome?,
                };
                turn.pass().await;
                Ok((entry, outcome))
            })
            .buffer_unordered(IN_FLIGHT);
        let (mut copied, mut gone) = (Vec::new(), 0);
        while let Some(outcome) = running.next().await {
            let (entry, outcome) = outcome?;
            match outcome {
                Outcome::Copied => {
                    self.done.objects += 1;
                    self.done.bytes += entry.size;
                    self.now.bytes_done += entry.size;
                    (self.progress)(self.now);
                    copied.push(entry);
                }
                Outcome::Gone => gone += 1,
                Outcome::HeldBack(what) => {
                    self.done.held_back.push(HeldBack { object: entry.path, what });
                }
            }
        }
        drop(running);
        self.there.extend(copied.into_iter().map(|entry| (entry.path, entry.size)));
        Ok(gone)
    }

    /// Slices have gone because their segments were sealed meanwhile: copies these, before any snapshot that
    /// needs them.
    async fn follow_the_archive(&mut self) -> Result<()> {
        for _ in 0..LISTINGS {
            let store = self.replica.source.store();
            let mut entries = Vec::new();
            for folder in stage::WAL {
                entries.extend(store.list(folder).await?);
            }
            entries.retain(|entry| !has(&self.there, entry));
            // What is held back already is not tried again.
            entries.retain(|e| !self.done.held_back.iter().any(|held| held.object == e.path));
            self.now.bytes_total += entries.iter().map(|entry| entry.size).sum::<u64>();
            if self.stage(Stage::Content, entries, &None).await? == 0 {
                return Ok(());
            }
        }
        self.done.held_back.push(HeldBack {
            object: stage::WAL[0].to_owned(),
            what: "WAL was sealed faster than it could be copied: run it again".to_owned(),
        });
        Ok(())
    }
}

fn is_slot(path: &str) -> bool {
    parse_slot_path(path).is_some()
}

/// Whether an object of a replica tells that somebody writes there, or that the source has lost something.
fn is_ahead(path: &str, own: &HashSet<&str>) -> bool {
    let told = |stage| !matches!(stage, Stage::Key) && !stage::is_slice(path);
    !own.contains(path) && Stage::of(path).is_some_and(told)
}

/// Whether an object is a way in, or a writer's certificate, that this repository has signed.
async fn is_own_key(source: &Repository, store: &Store, path: &str) -> Result<bool> {
    if Stage::of(path) != Some(Stage::Key) {
        return Ok(false);
    }
    let bytes = store.get_limited(path, MAX_SIGNED_BYTES).await?;
    let key = read_key(path, &bytes, &source.inner.root);
    Ok(matches!(key, Ok(Key::Slot | Key::Certificate)))
}

/// Whether a replica has an object. Slices of one name have one content, however they are sealed.
fn has(there: &HashMap<String, u64>, entry: &ObjectEntry) -> bool {
    there.get(&entry.path).is_some_and(|size| *size == entry.size || stage::is_slice(&entry.path))
}

/// Whether what was found of an object lets it be copied.
fn judged(stage: Stage, checked: Option<Checked>, there: &HashMap<String, u64>) -> Outcome {
    let Some(checked) = checked else {
        return Outcome::HeldBack("it is not what belongs in this place".to_owned());
    };
    if let Some(problem) = checked.problem {
        return Outcome::HeldBack(problem);
    }
    if stage == Stage::Snapshot {
        let files = checked.object.metadata.pointer("/file_table/path");
        if !files.and_then(|path| path.as_str()).is_some_and(|path| there.contains_key(path)) {
            return Outcome::HeldBack("its list of files was not copied".to_owned());
        }
    }
    match checked.indexed.iter().find(|(pack, ..)| !there.contains_key(&pack.path())) {
        Some((pack, ..)) => Outcome::HeldBack(format!("{} was not copied", pack.path())),
        None => Outcome::Copied,
    }
}

/// An object that was listed and is not there: slices go when their segment is sealed.
fn missing(path: &str, error: RepositoryError) -> Result<Outcome> {
    match error {
        RepositoryError::NotFound { .. } if stage::is_slice(path) => Ok(Outcome::Gone),
        RepositoryError::NotFound { .. } => Ok(Outcome::HeldBack("it is gone".to_owned())),
        error => damaged(error),
    }
}

fn damaged(error: RepositoryError) -> Result<Outcome> {
    if is_damage(&error) { Ok(Outcome::HeldBack(error.to_string())) } else { Err(error) }
}

fn is_damage(error: &RepositoryError) -> bool {
    matches!(
        error,
        RepositoryError::Corrupt { .. }
            | RepositoryError::UntrustedWriter { .. }
            | RepositoryError::UnsupportedFormat { .. }
            | RepositoryError::Document { .. }
    )
}
