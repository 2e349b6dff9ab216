//! Reading everything back: every object whole, every byte authenticated.

mod key;
pub(crate) mod object;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::documents::check_path;
use crate::error::{RepositoryError, Result};
use crate::fetch::ExtentReader;
use crate::index::{INDEX_PREFIX, PACKS_PREFIX, PackId};
use crate::lease;
use crate::object::{ObjectEntry, ObjectKind};
use crate::repository::{Repository, read_root};
use crate::root::{KEYS_PREFIX, ROOT_PATH};
use crate::signed::MAX_SIGNED_BYTES;
use crate::slots::parse_slot_path;
pub(crate) use key::{Key, read_key};
use object::{Checked, Depth, Known};

/// Objects read at once: at most 32 MiB each.
const IN_FLIGHT: usize = 3;
/// So many objects in a row that cannot be reached mean that the store is away.
const GIVE_UP_AFTER: usize = 8;

/// How deep a verification looks. Both read every object whole and check its signature and hash.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyLevel {
    /// Signatures and hashes: every byte is what its writer wrote. Needs no private key.
    Structure,
    /// Also decrypts and decompresses every frame and computes every extent's name again.
    Data,
}

/// How bad a finding is.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Costs nothing but room.
    Info,
    /// Should be looked at; everything can be restored.
    Warning,
    /// Something cannot be restored, or may not be trusted.
    Error,
}

/// What a finding is about.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// Referred to, but not there.
    Missing,
    /// There, but not what was written.
    Damaged,
    /// Of a writer whom no owner has admitted.
    UntrustedWriter,
    /// The store did not give it.
    Unreadable,
    /// A pack that no index names: of an interrupted run, or its index object is damaged.
    Orphan,
    /// Left behind by something that was interrupted.
    Leftover,
    /// Not an object of a repository.
    Unexpected,
}

/// One thing that is not as it should be.
#[derive(Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: FindingKind,
    /// Path inside the repository.
    pub object: String,
    /// What is wrong, and what cannot be done because of it.
    pub message: String,
}

/// How far a verification is.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct VerifyProgress {
    /// Objects done.
    pub objects_done: u64,
    /// Objects listed at the start.
    pub objects_total: u64,
    /// Bytes of the objects done.
    pub bytes_done: u64,
    /// Bytes of the objects listed at the start.
    pub bytes_total: u64,
}

/// An object that was found whole and authentic.
#[derive(Clone, Debug)]
pub struct VerifiedObject {
    /// Path inside the repository.
    pub path: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Bytes.
    pub size: u64,
    /// Its document, or the metadata beside its content. Null for packs and index objects, whose
    /// directories are large and checked here.
    pub metadata: serde_json::Value,
}

/// The outcome.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Objects read.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Objects that were left out: of these only name and size are known.
    pub skipped_objects: u64,
    /// Bytes of those.
    pub skipped_bytes: u64,
    /// What is not as it should be, worst first.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether nothing worse than [`Severity::Info`] was found.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Info)
    }
}

/// What the checks of single objects add up to.
#[derive(Default)]
struct Totals {
    report: VerifyReport,
    progress: VerifyProgress,
    /// Packs found whole: size and digest of the directory.
    packs: HashMap<PackId, (u64, [u8; 32])>,
    /// Packs that are there and damaged.
    damaged_packs: HashSet<PackId>,
    /// Packs whose content cannot be read, as found while something else was checked.
    broken_packs: BTreeMap<PackId, String>,
    /// Packs that were left out, with the sizes they are listed with.
    unread_packs: HashMap<PackId, u64>,
    /// Packs as index objects list them.
    indexed: Vec<(PackId, u64, [u8; 32], Arc<str>)>,
    usable_slots: usize,
    unreachable_in_a_row: usize,
}

impl Totals {
    fn find(
        &mut self,
        severity: Severity,
        kind: FindingKind,
        object: &str,
        message: impl Into<String>,
    ) {
        let (object, message) = (object.to_owned(), message.into());
        self.report.findings.push(Finding { severity, kind, object, message });
    }

    /// Turns an error into a finding.
    fn blame(&mut self, object: &str, error: RepositoryError, consequence: &str) {
        self.unreachable_in_a_row = 0;
        match error {
            RepositoryError::Corrupt { what, .. } => self.find(
                Severity::Error,
                FindingKind::Damaged,
                object,
                format!("{what}; {consequence}"),
            ),
            RepositoryError::UntrustedWriter { .. } => {
                self.find(
                    Severity::Error,
                    FindingKind::UntrustedWriter,
                    object,
                    format!("{error}; it is not used: {consequence}"),
                );
            }
            RepositoryError::UnsupportedFormat { .. } => self.find(
                Severity::Warning,
                FindingKind::Unexpected,
                object,
                format!("{error}; it was not checked"),
            ),
            // Leases and slices come and go while others work.
            RepositoryError::NotFound { .. } => self.find(
                Severity::Info,
                FindingKind::Leftover,
                object,
                "it was removed during the verification",
            ),
            other => {
                self.unreachable_in_a_row += 1;
                let cause =
                    std::error::Error::source(&other).map_or(String::new(), |s| format!(" ({s})"));
                self.find(
                    Severity::Error,
                    FindingKind::Unreadable,
                    object,
                    format!("{other}{cause}; unless that passes, {consequence}"),
                );
            }
        }
    }
}

type Selection<'a> = &'a (dyn Fn(&ObjectEntry) -> bool + Send + Sync);
type Observer<'a> = &'a (dyn Fn(&VerifiedObject) + Send + Sync);
type Progress<'a> = &'a (dyn Fn(VerifyProgress) + Send + Sync);

impl Repository {
    /// Reads every object whole and reports what is wrong; a finding never ends the run.
    ///
    /// # Errors
    /// [`RepositoryError::Cancelled`]; when the store cannot be listed or has gone away.
    pub async fn verify(
        &self,
        level: VerifyLevel,
        progress: Progress<'_>,
        cancel: &CancellationToken,
    ) -> Result<VerifyReport> {
        self.verify_observed(level, &|_| true, progress, &|_| {}, cancel).await
    }

    /// As [`Repository::verify`], but reads only what `selection` says yes to. What is left out is counted;
    /// of a pack that is left out it is still checked that it is there with its size. `observer` is told of
    /// every object that is whole, so that the caller can check what objects say about each other. It may be
    /// called from several threads.
    ///
    /// # Errors
    /// As [`Repository::verify`].
    pub async fn verify_observed(
        &self,
        level: VerifyLevel,
        selection: Selection<'_>,
        progress: Progress<'_>,
        observer: Observer<'_>,
        cancel: &CancellationToken,
    ) -> Result<VerifyReport> {
        let (entries, skipped): (Vec<_>, Vec<_>) =
            self.list("").await?.into_iter().partition(selection);
        let totals = Mutex::new(Totals {
            progress: VerifyProgress {
                objects_total: entries.len() as u64,
                bytes_total: entries.iter().map(|entry| entry.size).sum(),
                ..VerifyProgress::default()
            },
            report: VerifyReport {
                skipped_objects: skipped.len() as u64,
                skipped_bytes: skipped.iter().map(|entry| entry.size).sum(),
                ..VerifyReport::default()
            },
            unread_packs: skipped
                .iter()
                .filter_map(|entry| Some((PackId::parse_path(&entry.path)?, entry.size)))
                .collect(),
            ..Totals::default()
        });
        let mut run = Run { repository: self, bases: None, totals, progress, observer };
        run.root().await?;
        let index = self.load_index(true).await?;
        run.bases =
            (level == VerifyLevel::Data).then(|| ExtentReader::by_index(self, &index, cancel));
        // File tables last: what they need is known to be whole by then. They are recognised by
        // their header, so a first pass leaves them aside.
        let later = run.pass(entries, None, cancel).await?;
        run.blame_broken_bases();
        run.compare_index().await?;
        let damaged = std::mem::take(&mut run.totals().damaged_packs);
        let known = Arc::new(Known { index, damaged });
        run.pass(later, Some(known), cancel).await?;
        let mut totals = run.totals.into_inner().unwrap_or_else(PoisonError::into_inner);
        if totals.usable_slots == 0 {
            let message = "no key slot is usable; nobody can open the repository anew";
            totals.find(Severity::Error, FindingKind::Missing, KEYS_PREFIX, message);
        }
        totals
            .report
            .findings
            .sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.object.cmp(&b.object)));
        Ok(totals.report)
    }
}

struct Run<'a> {
    repository: &'a Repository,
    /// Where what is in packs is looked at.
    bases: Option<ExtentReader>,
    totals: Mutex<Totals>,
    progress: Progress<'a>,
    observer: Observer<'a>,
}

impl Run<'_> {
    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn root(&self) -> Result<()> {
        let consequence = "nobody can open the repository anew";
        match read_root(self.repository.store()).await {
            Ok(root) if root == self.repository.inner.root => {}
            Ok(_) => self.totals().find(
                Severity::Error,
                FindingKind::Damaged,
                ROOT_PATH,
                format!("it was replaced since the repository was opened; {consequence}"),
            ),
            Err(RepositoryError::NotARepository { .. }) => self.totals().find(
                Severity::Error,
                FindingKind::Missing,
                ROOT_PATH,
                format!("it is missing; {consequence}"),
            ),
            Err(
                error @ (RepositoryError::Unreachable { .. } | RepositoryError::Permission { .. }),
            ) => {
                return Err(error);
            }
            Err(error) => self.totals().blame(ROOT_PATH, error, consequence),
        }
        Ok(())
    }

    /// Checks `entries`; without `known` the file tables among them are returned unchecked.
    async fn pass(
        &self,
        entries: Vec<ObjectEntry>,
        known: Option<Arc<Known>>,
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectEntry>> {
        let later = Mutex::new(Vec::new());
        let mut running = futures_util::stream::iter(entries)
            .map(|entry| {
                let (known, later) = (known.clone(), &later);
                async move {
                    let postponed = tokio::select! {
                        () = cancel.cancelled() => return Err(RepositoryError::Cancelled),
                        postponed = self.one(&entry, known) => postponed?,
                    };
                    if postponed {
                        later.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
                    } else {
                        let mut totals = self.totals();
                        totals.report.objects += 1;
                        totals.report.bytes += entry.size;
                        totals.progress.objects_done += 1;
                        totals.progress.bytes_done += entry.size;
                        let now = totals.progress;
                        drop(totals);
                        (self.progress)(now);
                    }
                    Ok(())
                }
            })
            .buffer_unordered(IN_FLIGHT);
        while let Some(outcome) = running.next().await {
            outcome?;
        }
        drop(running);
        Ok(later.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the object is to be looked at later.
    async fn one(&self, entry: &ObjectEntry, known: Option<Arc<Known>>) -> Result<bool> {
        let path = entry.path.as_str();
        if path == ROOT_PATH {
            return Ok(false);
        }
        if path.strip_prefix(KEYS_PREFIX).is_some_and(|rest| rest.starts_with('/')) {
            return self.key(path).await.map(|()| false);
        }
        if in_folder(path, lease::LEASES_PREFIX) {
            return self.lease(path).await.map(|()| false);
        }
        if in_folder(path, crate::store::PROBE_PREFIX) {
            let message = "a test object of an interrupted creation; it may be removed";
            self.totals().find(Severity::Info, FindingKind::Leftover, path, message);
            return Ok(false);
        }
        if check_path(path).is_err() || path.split('/').any(|part| part.starts_with('.')) {
            let message = "it does not belong to the repository and was not checked";
            self.totals().find(Severity::Warning, FindingKind::Unexpected, path, message);
            return Ok(false);
        }
        let depth = self.bases.as_ref().map_or(Depth::Structure, Depth::Data);
        match object::check(self.repository, depth, entry, known).await {
            Ok(None) => Ok(true),
            Ok(Some(checked)) => {
                self.accept(path, checked);
                Ok(false)
            }
            Err(error) => {
                let consequence = self.consequence(path).await;
                let mut totals = self.totals();
                if let Some(pack) = PackId::parse_path(path) {
                    totals.damaged_packs.insert(pack);
                }
                totals.blame(path, error, consequence);
                self.give_up(&totals)?;
                Ok(false)
            }
        }
    }

    fn give_up(&self, totals: &Totals) -> Result<()> {
        if totals.unreachable_in_a_row < GIVE_UP_AFTER {
            return Ok(());
        }
        Err(RepositoryError::Unreachable {
            operation: "go on verifying",
            path: self.repository.store().location().to_owned(),
            source: "the store gave none of the last objects".into(),
        })
    }

    /// What the loss of the object at `path` means, as far as its place and header tell.
    async fn consequence(&self, path: &str) -> &'static str {
        if in_folder(path, PACKS_PREFIX) {
            return ObjectKind::Pack.consequence();
        }
        if in_folder(path, INDEX_PREFIX) {
            return ObjectKind::Index.consequence();
        }
        match object::stated_kind(self.repository, path).await {
            Some(kind) => kind.consequence(),
            None => "what it held cannot be used",
        }
    }

    fn accept(&self, path: &str, checked: Checked) {
        let mut totals = self.totals();
        totals.unreachable_in_a_row = 0;
        if let Some((pack, size, digest)) = checked.pack {
            totals.packs.insert(pack, (size, digest));
        }
        let name: Arc<str> = path.into();
        for (pack, size, digest) in checked.indexed {
            totals.indexed.push((pack, size, digest, Arc::clone(&name)));
        }
        totals.broken_packs.extend(checked.broken);
        let whole = checked.problem.is_none();
        if let Some(problem) = checked.problem {
            totals.find(Severity::Error, FindingKind::Missing, path, problem);
        }
        drop(totals);
        if whole {
            (self.observer)(&checked.object);
        }
    }

    /// Packs that were left out here, but of which something was read for others, and in vain.
    fn blame_broken_bases(&self) {
        let mut totals = self.totals();
        for (pack, what) in std::mem::take(&mut totals.broken_packs) {
            if totals.damaged_packs.insert(pack) {
                totals.find(Severity::Error, FindingKind::Damaged, &pack.path(), what);
            }
        }
    }

    async fn key(&self, path: &str) -> Result<()> {
        let store = self.repository.store();
        let bytes = match store.get_limited(path, MAX_SIGNED_BYTES).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let mut totals = self.totals();
                totals.blame(path, error, "it opens or certifies nothing");
                return self.give_up(&totals);
            }
        };
        let consequence = if parse_slot_path(path).is_some() {
            "this way in opens nothing"
        } else {
            "objects of this writer are not trusted until it is certified again"
        };
        match read_key(path, &bytes, &self.repository.inner.root) {
            Ok(Key::Slot) => self.totals().usable_slots += 1,
            Ok(Key::Certificate) => {}
            Ok(Key::LeftBehind) => {
                let message = "left behind by a creation that was interrupted; it may be removed";
                self.totals().find(Severity::Info, FindingKind::Leftover, path, message);
            }
            Ok(Key::Stranger) => {
                let message = "it is neither a key slot nor a certificate";
                self.totals().find(Severity::Warning, FindingKind::Unexpected, path, message);
            }
            Err(error) => self.totals().blame(path, error, consequence),
        }
        Ok(())
    }

    async fn lease(&self, path: &str) -> Result<()> {
        if lease::is_clock(path) {
            let message = "it only told the time; it may be removed";
            self.totals().find(Severity::Info, FindingKind::Leftover, path, message);
            return Ok(());
        }
        let outcome = match self.repository.store().get_limited(path, MAX_SIGNED_BYTES).await {
            Ok(bytes) => lease::check_object(self.repository, path, &bytes).await,
            // Renewed since it was listed, or given up.
            Err(RepositoryError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            let mut totals = self.totals();
            totals.blame(path, error, ObjectKind::Lease.consequence());
            self.give_up(&totals)?;
        }
        Ok(())
    }

    /// Index against packs, both ways.
    async fn compare_index(&self) -> Result<()> {
        let (indexed, packs, unread, damaged) = {
            let mut totals = self.totals();
            (
                std::mem::take(&mut totals.indexed),
                std::mem::take(&mut totals.packs),
                std::mem::take(&mut totals.unread_packs),
                totals.damaged_packs.clone(),
            )
        };
        let mut named = HashSet::new();
        for (pack, size, digest, index) in indexed {
            let first = named.insert(pack);
            let path = pack.path();
            match packs.get(&pack) {
                Some(found) if *found == (size, digest) => {}
                Some(_) => self.totals().find(
                    Severity::Error,
                    FindingKind::Damaged,
                    &index,
                    format!(
                        "it describes {path} otherwise than the pack itself; {}",
                        ObjectKind::Pack.consequence()
                    ),
                ),
                None if damaged.contains(&pack) || !first => {}
                None if unread.get(&pack) == Some(&size) => {}
                None if unread.contains_key(&pack) => self.totals().find(
                    Severity::Error,
                    FindingKind::Damaged,
                    &path,
                    format!(
                        "it has not the size that {index} says; {}",
                        ObjectKind::Pack.consequence()
                    ),
                ),
                // A listing may have missed it: ask for it by name.
                None => match self.repository.store().head(&path).await {
                    Err(RepositoryError::NotFound { .. }) => self.totals().find(
                        Severity::Error,
                        FindingKind::Missing,
                        &path,
                        format!("{index} names it; {}", ObjectKind::Pack.consequence()),
                    ),
                    Ok(_) => self.totals().find(
                        Severity::Warning,
                        FindingKind::Unreadable,
                        &path,
                        "the store did not list it, so it was not checked; verify again",
                    ),
                    Err(error) => return Err(error),
                },
            }
        }
        for pack in packs.keys().filter(|pack| !named.contains(pack)) {
            let message = "no index names this pack: it was left by an interrupted run, or its \
                           index object is lost; nothing shares it";
            self.totals().find(Severity::Info, FindingKind::Orphan, &pack.path(), message);
        }
        Ok(())
    }
}

pub(crate) fn in_folder(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}
