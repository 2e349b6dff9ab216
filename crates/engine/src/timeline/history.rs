//! The history of a cluster as it was last read: outlines of its WAL, its snapshots, its gaps.
//!
//! What never changes is read once and kept, in memory and in the catalog. A window that asks often is
//! answered from what was read some seconds ago, which the answer says, while it is read again behind it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use holdfast_postgres::{Lsn, SegmentNo, TimelineId};
use holdfast_repository::{ObjectKind, Repository, RepositoryError};
use uuid::Uuid;

use super::Way;
use super::outline::SegmentOutline;
use crate::Engine;
use crate::archive::ledger::{SnapshotSpan, wal_is_whole};
use crate::archive::{
    ArchiveView, Leg, Piece, PointEvent, SegmentIndex, StoredSegment, slices_prefix, wal_prefix,
};
use crate::cluster::Cluster;
use crate::error::{EngineError, ErrorObject, Result};
use crate::points::{PointState, SnapshotSummary};
use crate::snapshot::{self, Proof, Snapshot};
use crate::verify::checks_of;

/// Metadata is fetched with this many requests at a time.
const PARALLEL_READS: usize = 8;
/// New outlines are kept in the catalog in groups of this many.
const KEPT_TOGETHER: usize = 256;
/// So many indexes with all their transactions stay in memory.
const INDEXES_KEPT: usize = 48;
/// A history with fewer objects is listed at once; one with more is first answered from the catalog.
const LISTED_AT_ONCE: usize = 5000;
/// What was read so long ago is read again behind the next answer.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How new an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The store is listed before the answer.
    Now,
    /// What was read before will do; it is read again behind the answer.
    Kept,
}

/// A cluster's history as it was read at one moment.
#[derive(Debug)]
pub struct History {
    repository: Repository,
    /// Its indexes hold everything but transactions.
    pub(crate) view: ArchiveView,
    /// By path of the piece.
    outlines: HashMap<String, Arc<SegmentOutline>>,
    /// Oldest first.
    pub(crate) snapshots: Vec<SnapshotSummary>,
    /// When the store was listed; none when only the catalog was read.
    pub(super) read_at: Option<DateTime<Utc>>,
}

/// One segment on the way to a target, with what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    pub leg: Leg,
    pub stored: &'a StoredSegment,
}

impl History {
    /// Where the own WAL of each snapshot lies.
    pub(crate) fn spans(&self) -> Vec<SnapshotSpan> {
        self.snapshots.iter().filter_map(SnapshotSummary::span).collect()
    }

    /// The outlines of a segment's pieces.
    pub(super) fn outlines<'a>(
        &'a self,
        stored: &'a StoredSegment,
    ) -> impl DoubleEndedIterator<Item = &'a SegmentOutline> {
        stored.pieces.iter().filter_map(|piece| self.outlines.get(&piece.path).map(AsRef::as_ref))
    }

    /// The earliest and latest time in each segment in which a transaction ended or a restore point was
    /// made.
    pub(crate) fn segment_times(
        &self,
    ) -> BTreeMap<(TimelineId, SegmentNo), (DateTime<Utc>, DateTime<Utc>)> {
        let segments = self
            .view
            .timelines()
            .flat_map(|t| self.view.segments(t).map(move |(n, s)| ((t, n), s)));
        segments
            .filter_map(|(key, stored)| {
                let times = || self.outlines(stored).filter_map(|outline| outline.times);
                let (from, to) = (times().map(|t| t.0).min()?, times().map(|t| t.1).max()?);
                Some((key, (from.to_chrono(), to.to_chrono())))
            })
            .collect()
    }

    /// The segments along `legs` in WAL order.
    pub(super) fn steps<'a>(&'a self, legs: &[Leg]) -> Vec<Step<'a>> {
        let size = self.view.segment_size;
        legs.iter()
            .flat_map(|leg| {
                self.view
                    .segments(leg.timeline)
                    .filter(move |(number, _)| {
                        size.end_of(*number) > leg.from
                            && leg.to.is_none_or(|to| size.start_of(*number) < to)
                    })
                    .map(|(_, stored)| Step { leg: *leg, stored })
            })
            .collect()
    }

    /// The legs of a way; none when nothing is archived.
    pub(super) fn legs(&self, way: Way) -> Result<Vec<Leg>> {
        match way {
            Way::To(timeline) => self.view.path(timeline),
            Way::Newest => match self.view.newest_timeline() {
                Some(timeline) => self.view.path(timeline),
                None => Ok(Vec::new()),
            },
        }
    }

    /// Everything recovery can stop at in one segment, in WAL order, as far as the leg goes.
    pub(super) async fn events(&self, engine: &Engine, step: Step<'_>) -> Result<Vec<PointEvent>> {
        let mut pieces = Vec::new();
        for piece in &step.stored.pieces {
            let index = engine.segment_index(&self.repository, piece).await?;
            let whole = Piece { index: SegmentIndex::clone(&index), ..piece.clone() };
            pieces.push((whole, 0));
        }
        let view = ArchiveView::of_pieces(self.view.system, self.view.segment_size, pieces);
        let end = step.leg.to.unwrap_or(Lsn(u64::MAX));
        Ok(view.events(&[step.leg], step.leg.from, end))
    }
}

/// What is kept of the clusters that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Histories {
    clusters: Mutex<HashMap<Uuid, Arc<KeptHistory>>>,
    indexes: Mutex<Vec<(String, Arc<SegmentIndex>)>>,
}

#[derive(Debug, Default)]
struct KeptHistory {
    current: Mutex<Option<(Instant, Arc<History>)>>,
    /// Why it could not be read again.
    problem: Mutex<Option<ErrorObject>>,
    /// Held while it is read.
    reading: Arc<tokio::sync::Mutex<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeptHistory {
    fn current(&self) -> Option<(Instant, Arc<History>)> {
        locked(&self.current).clone()
    }
}

/// A history, and how it stands with it.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub history: Arc<History>,
    /// It is being read again.
    pub reading: bool,
    /// Why it could not be read again.
    pub problem: Option<ErrorObject>,
}

impl Engine {
    fn kept_history(&self, cluster: &Cluster) -> Arc<KeptHistory> {
        Arc::clone(locked(&self.histories().clusters).entry(cluster.id).or_default())
    }

    /// A cluster's history.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub(crate) async fn history(
        &self,
        cluster: &Cluster,
        freshness: Freshness,
    ) -> Result<Arc<History>> {
        self.read_history(cluster, freshness).await.map(|read| read.history)
    }

    /// A cluster's history with how it stands with it.
    pub(super) async fn read_history(
        &self,
        cluster: &Cluster,
        freshness: Freshness,
    ) -> Result<Read> {
        let kept = self.kept_history(cluster);
        if freshness == Freshness::Now {
            let _reading = kept.reading.lock().await;
            let history = self.read_again(&kept, cluster).await?;
            return Ok(Read { history, reading: false, problem: None });
        }
        let (at, history) = if let Some(found) = kept.current() {
            found
        } else {
            // One of several that ask at once reads; the others find what it read.
            let _reading = kept.reading.lock().await;
            match kept.current() {
                Some(found) => found,
                None => (Instant::now(), self.first_read(&kept, cluster).await?),
            }
        };
        let old = history.read_at.is_none() || at.elapsed() > READ_AGAIN_AFTER;
        if old && let Ok(guard) = Arc::clone(&kept.reading).try_lock_owned() {
            let (engine, kept, cluster) = (self.clone(), Arc::clone(&kept), cluster.clone());
            tokio::spawn(async move {
                let _reading = guard;
                let problem = engine.read_again(&kept, &cluster).await.err();
                *locked(&kept.problem) = problem.map(|error| error.to_object());
            });
        }
        let problem = locked(&kept.problem).clone();
        Ok(Read { history, reading: kept.reading.try_lock().is_err(), problem })
    }

    /// What the catalog holds of it; what the store holds where that is little.
    async fn first_read(&self, kept: &KeptHistory, cluster: &Cluster) -> Result<Arc<History>> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let history = self.load_history(cluster, repository, None, false).await?;
        if history.outlines.len() + history.snapshots.len() < LISTED_AT_ONCE {
            return self.read_again(kept, cluster).await;
        }
        let history = Arc::new(history);
        *locked(&kept.current) = Some((Instant::now(), Arc::clone(&history)));
        Ok(history)
    }

    async fn read_again(&self, kept: &KeptHistory, cluster: &Cluster) -> Result<Arc<History>> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let before = kept.current().map(|(_, history)| history);
        let history = Arc::new(self.load_history(cluster, repository, before, true).await?);
        *locked(&kept.current) = Some((Instant::now(), Arc::clone(&history)));
        *locked(&kept.problem) = None;
        Ok(history)
    }

    /// Reads a history. What `before` holds is taken from there, what the catalog holds from the catalog,
    /// the rest from the store. Without `listed`, only what the catalog holds is taken of objects of
    /// which there are many.
    async fn load_history(
        &self,
        cluster: &Cluster,
        repository: Repository,
        before: Option<Arc<History>>,
        listed: bool,
    ) -> Result<History> {
        let read_at = listed.then(Utc::now);
        let outlines = self.load_outlines(cluster, &repository, before.as_deref(), listed).await?;
        let pieces = outlines
            .iter()
            .map(|(path, (kind, size, outline))| {
                let piece = Piece { path: path.clone(), kind: *kind, index: outline.index.clone() };
                (piece, *size)
            })
            .collect();
        let view = ArchiveView::with_pieces(
            self.catalog(),
            &repository,
            cluster.system_identifier,
            cluster.segment_size,
            pieces,
        )
        .await?;
        let mut snapshots =
            self.load_snapshots(cluster, &repository, before.as_deref(), listed).await?;
        for summary in &mut snapshots {
            if !summary.span().is_some_and(|span| wal_is_whole(&view, span)) {
                summary.state = PointState::Broken;
            }
        }
        Ok(History {
            repository,
            view,
            outlines: outlines.into_iter().map(|(path, (_, _, o))| (path, o)).collect(),
            snapshots,
            read_at,
        })
    }

    async fn load_outlines(
        &self,
        cluster: &Cluster,
        repository: &Repository,
        before: Option<&History>,
        listed: bool,
    ) -> Result<HashMap<String, (ObjectKind, u64, Arc<SegmentOutline>)>> {
        let system = cluster.system_identifier;
        let mut objects = Vec::new();
        // Slices first: a segment sealed between the two lists is then found whole.
        for entry in repository.list(&slices_prefix(system)).await? {
            objects.push((entry.path, entry.size, ObjectKind::WalSlice));
        }
        let mut kept: HashMap<String, Arc<SegmentOutline>> = HashMap::new();
        if let Some(history) = before {
            kept.clone_from(&history.outlines);
        } else {
            let read = |text: &str| SegmentOutline::read(text).map(Arc::new);
            let prefix = wal_prefix(system);
            kept.extend(self.catalog().outlines_under(repository.id(), &prefix, read).await?);
        }
        if listed {
            let listed = repository.list(&wal_prefix(system)).await?;
            self.forget_gone(repository, listed.iter().map(|e| e.path.as_str()), kept.keys())
                .await?;
            let segments = listed.into_iter().map(|e| (e.path, e.size, ObjectKind::WalSegment));
            objects.extend(segments);
        } else {
            objects.extend(kept.keys().map(|path| (path.clone(), 0, ObjectKind::WalSegment)));
        }
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        for (path, size, kind) in objects {
            match kept.get(&path) {
                Some(outline) => {
                    found.insert(path, (kind, size, Arc::clone(outline)));
                }
                None => missing.push((path, size, kind)),
            }
        }
        for group in missing.chunks(KEPT_TOGETHER) {
            // Owned by each read: borrowed from here, the whole could not move between threads.
            let owned: Vec<_> = group
                .iter()
                .map(|(path, size, kind)| {
                    (self.clone(), repository.clone(), path.clone(), *size, *kind)
                })
                .collect();
            let read: Vec<_> = futures_util::stream::iter(owned)
                .map(|(engine, repository, path, size, kind)| async move {
                    match read_outline(&engine, &repository, &path, kind).await {
                        Ok(outline) => Ok(Some((path, size, kind, outline))),
                        // A slice may be superseded between the list and the read.
                        Err(EngineError::Repository(RepositoryError::NotFound { .. }))
                            if kind == ObjectKind::WalSlice =>
                        {
                            Ok(None)
                        }
                        Err(error) => Err(error),
                    }
                })
                .buffered(PARALLEL_READS)
                .try_filter_map(|found| async move { Ok(found) })
                .try_collect()
                .await?;
            let new: Vec<_> = read
                .iter()
                .filter(|(_, _, kind, _)| *kind == ObjectKind::WalSegment)
                .map(|(path, _, _, outline)| {
                    (path.clone(), serde_json::to_string(outline).unwrap_or_default())
                })
                .collect();
            self.catalog().keep_outlines(repository.id(), &new, &[]).await?;
            for (path, size, kind, outline) in read {
                found.insert(path, (kind, size, Arc::new(outline)));
            }
        }
        Ok(found)
    }

    /// Lets go of outlines whose indexes have changed: they are made anew when the history is read.
    pub(crate) async fn forget_outlines(
        &self,
        cluster: &Cluster,
        repository: &Repository,
        paths: &[String],
    ) -> Result<()> {
        self.catalog().keep_outlines(repository.id(), &[], paths).await?;
        locked(&self.histories().clusters).remove(&cluster.id);
        Ok(())
    }

    async fn forget_gone(
        &self,
        repository: &Repository,
        listed: impl Iterator<Item = &str>,
        kept: impl Iterator<Item = &String>,
    ) -> Result<()> {
        let listed: HashSet<&str> = listed.collect();
        let gone: Vec<String> = kept
            .filter(|path| path.starts_with("wal/") || path.starts_with("snapshots/"))
            .filter(|path| !listed.contains(path.as_str()))
            .cloned()
            .collect();
        self.catalog().keep_outlines(repository.id(), &[], &gone).await
    }

    async fn load_snapshots(
        &self,
        cluster: &Cluster,
        repository: &Repository,
        before: Option<&History>,
        listed: bool,
    ) -> Result<Vec<SnapshotSummary>> {
        let prefix = snapshot::prefix(cluster.id);
        let mut kept: HashMap<String, SnapshotSummary> = HashMap::new();
        if let Some(history) = before {
            for summary in &history.snapshots {
                kept.insert(format!("{prefix}{}", summary.id), summary.clone());
            }
        } else {
            let read = |text: &str| serde_json::from_str(text).ok();
            kept.extend(self.catalog().outlines_under(repository.id(), &prefix, read).await?);
        }
        let mut found: Vec<SnapshotSummary> = Vec::new();
        if listed {
            let entries = repository.list(&prefix).await?;
            self.forget_gone(repository, entries.iter().map(|e| e.path.as_str()), kept.keys())
                .await?;
            let mut missing = Vec::new();
            for entry in entries {
                // Beside the manifest stands its list of files.
                if !snapshot::is_manifest(&entry.path) {
                    continue;
                }
                match kept.remove(&entry.path) {
                    Some(summary) => found.push(summary),
                    None => missing.push(entry.path),
                }
            }
            for group in missing.chunks(KEPT_TOGETHER) {
                let owned: Vec<_> =
                    group.iter().map(|path| (repository.clone(), path.clone())).collect();
                let read: Vec<(String, SnapshotSummary)> = futures_util::stream::iter(owned)
                    .map(|(repository, path)| async move {
                        let manifest: Snapshot =
                            repository.get_document(&path, ObjectKind::Snapshot).await?;
                        let belongs = manifest.belongs_at(&path);
                        let summary = SnapshotSummary::of(&manifest, None, &[]);
                        Ok::<_, EngineError>(belongs.then_some((path, summary)))
                    })
                    .buffered(PARALLEL_READS)
                    .try_filter_map(|read| async { Ok(read) })
                    .try_collect()
                    .await?;
                let new: Vec<_> = read
                    .iter()
                    .map(|(path, s)| (path.clone(), serde_json::to_string(s).unwrap_or_default()))
                    .collect();
                self.catalog().keep_outlines(repository.id(), &new, &[]).await?;
                found.extend(read.into_iter().map(|(_, summary)| summary));
            }
        } else {
            found.extend(kept.into_values());
        }
        let proofs = self.load_proofs(cluster, repository).await?;
        let mut checks = checks_of(self.catalog(), repository, cluster.id).await?;
        for summary in &mut found {
            let check = summary.id.parse().ok().and_then(|id: Uuid| checks.remove(&id));
            summary.judge(proofs.get(&summary.id).cloned(), check);
        }
        found.sort_by(|a, b| (a.start_lsn, &a.id).cmp(&(b.start_lsn, &b.id)));
        Ok(found)
    }

    /// The newest proof of each snapshot, by the snapshot's id.
    async fn load_proofs(
        &self,
        cluster: &Cluster,
        repository: &Repository,
    ) -> Result<HashMap<String, Proof>> {
        let mut newest = HashMap::<String, String>::new();
        for entry in repository.list(&format!("proofs/{}/", cluster.id)).await? {
            // Beside those of single snapshots stand the outcomes of verifications.
            if let Some(snapshot) = entry.path.rsplit('/').nth(1)
                && Uuid::try_parse(snapshot).is_ok()
            {
                let known = newest.entry(snapshot.to_owned()).or_default();
                if entry.path > *known {
                    known.clone_from(&entry.path);
                }
            }
        }
        let mut proofs = HashMap::new();
        for (id, path) in newest {
            let proof =
                snapshot::cached_document(self.catalog(), repository, &path, ObjectKind::Proof)
                    .await?;
            proofs.insert(id, proof);
        }
        Ok(proofs)
    }

    /// The whole index of one piece of WAL, from memory where it was looked at lately.
    async fn segment_index(
        &self,
        repository: &Repository,
        piece: &Piece,
    ) -> Result<Arc<SegmentIndex>> {
        let key = format!("{} {}", repository.id(), piece.path);
        {
            let mut indexes = locked(&self.histories().indexes);
            if let Some(at) = indexes.iter().position(|(path, _)| *path == key) {
                let found = indexes.remove(at);
                let index = Arc::clone(&found.1);
                indexes.push(found);
                return Ok(index);
            }
        }
        let index = Arc::new(read_index(self, repository, &piece.path, piece.kind).await?);
        let mut indexes = locked(&self.histories().indexes);
        if indexes.len() >= INDEXES_KEPT {
            indexes.remove(0);
        }
        indexes.push((key, Arc::clone(&index)));
        Ok(index)
    }
}

async fn read_outline(
    engine: &Engine,
    repository: &Repository,
    path: &str,
    kind: ObjectKind,
) -> Result<SegmentOutline> {
    let index = read_index(engine, repository, path, kind).await?;
    // Many transactions take a while to count.
    tokio::task::spawn_blocking(move || SegmentOutline::of(&index))
        .await
        .map_err(|e| EngineError::Fault(format!("an outline was not made: {e}")))
}

/// The index of one piece of WAL: from the catalog where it was read before, or by one ranged read.
async fn read_index(
    engine: &Engine,
    repository: &Repository,
    path: &str,
    kind: ObjectKind,
) -> Result<SegmentIndex> {
    if kind == ObjectKind::WalSegment
        && let Some(text) = engine.catalog().wal_metadata(repository.id(), path).await?
        && let Ok(index) = serde_json::from_str(&text)
    {
        return Ok(index);
    }
    Ok(repository.get_sealed_metadata(path, kind).await?)
}
