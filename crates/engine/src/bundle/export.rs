//! Making a bundle out of a repository.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};
use holdfast_postgres::{Lsn, TimelineId};
use holdfast_repository::{
    Bundle, ObjectEntry, ObjectKind, PackId, Repository, RepositoryError, Severity, VerifyLevel,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{BundleContents, PREFIX};
use crate::Engine;
use crate::archive::ledger::{is_on, wal_is_whole};
use crate::archive::{
    ArchiveView, Leg, PointEvent, coverage_prefix, history_prefix, slices_prefix, wal_prefix,
};
use crate::cluster::{Cluster, cluster_documents_prefix};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::lease::HeldLease;
use crate::retention::tombstone;
use crate::snapshot::contents::{Packs, packs_of};
use crate::snapshot::{Snapshot, proofs_prefix};

/// So often WAL is listed again because slices were sealed while they were copied.
const LISTINGS: usize = 5;

/// What is to be in a bundle.
#[derive(Debug, Clone)]
pub struct BundleRequest {
    /// Of which cluster.
    pub cluster: String,
    /// The snapshot; the newest that can be restored when none is named.
    pub snapshot: Option<Uuid>,
    /// The time that can be restored to at the latest; without one all WAL that there is.
    pub through: Option<DateTime<Utc>>,
    /// A path that does not exist: a tar file when it ends in `.tar`, else a folder.
    pub to: PathBuf,
}

/// A bundle that was made.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct BundleResult {
    /// The job.
    pub job: String,
    /// Where it is.
    pub path: String,
    /// The snapshot in it.
    pub snapshot: String,
    /// The timeline that its WAL leads to.
    pub timeline: u32,
    /// Where its WAL begins.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// Where its WAL ends.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// The last commit in it; null when there is none.
    #[ts(type = "string | null")]
    pub last_commit: Option<DateTime<Utc>>,
    /// Objects in it.
    #[ts(type = "number")]
    pub objects: u64,
    /// Their bytes.
    #[ts(type = "number")]
    pub bytes: u64,
}

impl Engine {
    /// Makes a bundle, and reads it back before it gets its name.
    ///
    /// # Errors
    /// Refused when it would not hold what was asked for; integrity when something stored is damaged. Nothing
    /// stays behind then.
    pub async fn export_bundle(
        &self,
        request: BundleRequest,
        cancel: CancellationToken,
    ) -> Result<BundleResult> {
        let engine = self.clone();
        let (cluster, title) = (request.cluster.clone(), title(&request));
        self.run_job(JobKind::Bundle, Some(&cluster), title, cancel, |job| async move {
            engine.export_in(job, request).await
        })
        .await
    }

    /// The same in the background.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] for an unknown cluster; when the job cannot be recorded.
    pub async fn start_bundle(&self, request: BundleRequest) -> Result<JobId> {
        let cluster = self.cluster(&request.cluster).await?.name;
        let (engine, title) = (self.clone(), title(&request));
        self.start_job(JobKind::Bundle, Some(&cluster), title, |job| async move {
            engine.export_in(job, request).await
        })
        .await
    }

    async fn export_in(&self, job: JobContext, request: BundleRequest) -> Result<BundleResult> {
        job.reporter.phase("choosing", None, None);
        let cluster = self.cluster(&request.cluster).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        repository.must_read("exporting a bundle")?;
        let lease = HeldLease::to_read(self, &repository, &job, JobKind::Bundle).await;
        let since = lease.as_ref().map_or_else(Utc::now, HeldLease::since);
        let outcome = self.export_held(&job, request, &cluster, repository, since).await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        outcome
    }

    async fn export_held(
        &self,
        job: &JobContext,
        request: BundleRequest,
        cluster: &Cluster,
        repository: Repository,
        since: DateTime<Utc>,
    ) -> Result<BundleResult> {
        let view = self.archive_view(cluster).await?;
        let chosen = self.choose(cluster, &view, &request).await?;
        tombstone::refuse_due(
            self.catalog(),
            &repository,
            since,
            false,
            chosen.snapshot.id,
            |wal| wal.system == view.system && chosen.needs(wal.timeline, wal.from_lsn, wal.to_lsn),
        )
        .await?;
        let mut bundle = Bundle::begin(&request.to).await.map_err(taken)?;
        let mut copy = Copying { job, repository: &repository, bundle: &mut bundle, done: 0 };
        copy.all(self, cluster, &chosen).await?;
        read_back(job, &repository, &mut bundle).await?;
        let stats = bundle.finish().map_err(taken)?;
        Ok(BundleResult {
            job: job.id.to_string(),
            path: request.to.display().to_string(),
            snapshot: chosen.snapshot.id.to_string(),
            timeline: chosen.timeline.get(),
            from_lsn: chosen.snapshot.start_lsn,
            to_lsn: chosen.end,
            last_commit: chosen.last_commit,
            objects: stats.objects,
            bytes: stats.bytes,
        })
    }

    /// Finds the snapshot and how far its WAL goes.
    async fn choose(
        &self,
        cluster: &Cluster,
        view: &ArchiveView,
        request: &BundleRequest,
    ) -> Result<Chosen> {
        let snapshots = self.snapshots(cluster).await?;
        let wanted = |s: &Snapshot| request.snapshot.is_none_or(|id| s.id == id);
        if let Some(id) = request.snapshot
            && !snapshots.iter().any(|(s, _)| s.id == id)
        {
            return Err(EngineError::NotFound { what: "snapshot", name: id.to_string() });
        }
        let in_time = |s: &Snapshot| request.through.is_none_or(|time| s.finished_at <= time);
        let newest = snapshots
            .into_iter()
            .map(|(snapshot, _)| snapshot)
            .rev()
            .find(|s| wanted(s) && in_time(s) && wal_is_whole(view, s.into()));
        let Some(snapshot) = newest else {
            return Err(EngineError::refused(
                "no_snapshot",
                format!(
                    "there is no backup of \"{}\" from which that could be restored",
                    cluster.name
                ),
                "Look at `holdfast points`: the snapshot needs all the WAL up to its end, and must have been finished by \
                 the time that --through names.",
            ));
        };
        let newest = view.newest_timeline().and_then(|timeline| view.path(timeline).ok());
        let legs = newest
            .filter(|legs| is_on(legs, (&snapshot).into()))
            .map_or_else(|| view.path(snapshot.timeline), Ok)?;
        let reachable = view.reachable_from(&legs, snapshot.start_lsn);
        let events = view.events(&legs, snapshot.start_lsn, reachable);
        let commits = || {
            events.iter().filter_map(|event| match event {
                PointEvent::Transaction(_, t) => Some((t.span, t.time.to_chrono())),
                PointEvent::Point(..) => None,
            })
        };
        let mut end = reachable;
        if let Some(time) = request.through {
            // Recovery to a time stops at the first transaction after it, which has to be there.
            let Some((beyond, _)) = commits().find(|(_, at)| *at > time) else {
                let last = commits().next_back().map_or_else(
                    || "none".to_owned(),
                    |(_, at)| at.to_rfc3339_opts(SecondsFormat::Millis, true),
                );
                return Err(EngineError::refused(
                    "target_not_reached",
                    format!(
                        "nothing after that time is archived: the last transaction is of {last}"
                    ),
                    "Leave out --through to take all WAL that there is.",
                ));
            };
            let size = view.segment_size;
            let last = size.segment_of(Lsn(beyond.end.0.saturating_sub(1)));
            end = end.min(size.end_of(last)).max(snapshot.stop_lsn.min(reachable));
        }
        let last_commit =
            commits().filter(|(span, _)| span.end <= end).map(|(_, at)| at).next_back();
        let timeline = legs.last().map_or(snapshot.timeline, |leg| leg.timeline);
        Ok(Chosen { snapshot, legs, timeline, end, last_commit })
    }
}

/// A name that somebody has taken.
fn taken(error: RepositoryError) -> EngineError {
    match error {
        RepositoryError::AlreadyExists { path } => EngineError::refused(
            "destination_not_empty",
            format!("{path} exists"),
            "Name a file or folder that does not exist yet. Nothing was written.",
        ),
        other => other.into(),
    }
}

fn title(request: &BundleRequest) -> String {
    format!("Bundle of {} to {}", request.cluster, request.to.display())
}

/// What a bundle takes along.
struct Chosen {
    snapshot: Snapshot,
    legs: Vec<Leg>,
    timeline: TimelineId,
    end: Lsn,
    last_commit: Option<DateTime<Utc>>,
}

impl Chosen {
    /// Whether any WAL between two places of a timeline is part of it.
    fn needs(&self, timeline: TimelineId, from: Lsn, to: Lsn) -> bool {
        self.legs.iter().any(|leg| {
            leg.timeline == timeline
                && leg.from.max(self.snapshot.start_lsn) < to
                && from < leg.to.map_or(self.end, |end| end.min(self.end))
        })
    }

    /// The paths of its WAL.
    fn wal(&self, view: &ArchiveView) -> Vec<String> {
        let size = view.segment_size;
        let mut paths = Vec::new();
        for leg in &self.legs {
            let from = leg.from.max(self.snapshot.start_lsn);
            let to = leg.to.map_or(self.end, |to| to.min(self.end));
            let inside = view
                .segments(leg.timeline)
                .filter(|(number, _)| size.end_of(*number) > from && size.start_of(*number) < to);
            paths.extend(inside.flat_map(|(_, s)| s.pieces.iter().map(|p| p.path.clone())));
        }
        paths
    }
}

/// Objects on their way into a bundle.
struct Copying<'a> {
    job: &'a JobContext,
    repository: &'a Repository,
    bundle: &'a mut Bundle,
    done: u64,
}

impl Copying<'_> {
    async fn all(&mut self, engine: &Engine, cluster: &Cluster, chosen: &Chosen) -> Result<()> {
        let snapshot = &chosen.snapshot;
        let Packs { found, lost } = packs_of(self.repository, snapshot).await?;
        if let Some(path) = lost {
            return Err(damaged(&path, "no pack holds all of it"));
        }
        let mut packs: Vec<PackId> = found.into_iter().collect();
        packs.sort_unstable();
        let sizes: HashMap<String, u64> =
            self.repository.list("packs").await?.into_iter().map(|e| (e.path, e.size)).collect();
        let total = packs.iter().filter_map(|pack| sizes.get(&pack.path())).sum::<u64>();
        self.job.reporter.phase("copying", Some("bytes"), None);
        // WAL first: slices of the open segment do not stay.
        self.wal(engine, cluster, chosen).await?;
        self.job.reporter.total(Some(self.done + total));
        for pack in &packs {
            let path = pack.path();
            let size = sizes.get(&path).copied().unwrap_or_default();
            let entry = ObjectEntry { path, size, modified: Utc::now() };
            self.one(&entry).await?;
        }
        for (path, bytes) in self.repository.index_of(&packs).await? {
            self.bundle.put(&path, bytes).await?;
        }
        let system = cluster.system_identifier;
        let own = format!("{}{}/", cluster_documents_prefix(), cluster.id);
        let proofs = proofs_prefix(cluster.id, snapshot.id);
        let prefixes = ["keys", &own, &history_prefix(system), &coverage_prefix(system), &proofs]
            .map(String::from);
        for prefix in prefixes {
            for entry in self.repository.list(&prefix).await? {
                self.one(&entry).await?;
            }
        }
        let listed = self.repository.list(&crate::snapshot::prefix(cluster.id)).await?;
        // The list of files before the manifest that names it.
        for path in [&snapshot.file_table.path, &snapshot.path()] {
            let entry = listed.iter().find(|entry| entry.path == *path);
            self.one(entry.ok_or_else(|| damaged(path, "it is gone"))?).await?;
        }
        let contents = BundleContents {
            cluster: cluster.id,
            name: cluster.name.clone(),
            snapshot: snapshot.id,
            timeline: chosen.timeline,
            from_lsn: snapshot.start_lsn,
            to_lsn: chosen.end,
            made_at: Utc::now(),
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let path = format!("{PREFIX}{}", Uuid::now_v7());
        let bytes = self.repository.document(&path, ObjectKind::Bundle, &contents).await?;
        self.bundle.put(&path, bytes).await?;
        let root = self.repository.store().get("holdfast.json").await?;
        self.bundle.put("holdfast.json", root).await?;
        Ok(())
    }

    async fn one(&mut self, entry: &ObjectEntry) -> Result<()> {
        self.job.check()?;
        self.bundle.copy(self.repository, entry, &self.job.cancel).await?;
        self.done += entry.size;
        self.job.reporter.done(self.done);
        Ok(())
    }

    async fn wal(&mut self, engine: &Engine, cluster: &Cluster, chosen: &Chosen) -> Result<()> {
        let mut copied = HashSet::new();
        for _ in 0..LISTINGS {
            let view = engine.archive_view(cluster).await?;
            let system = cluster.system_identifier;
            let mut entries = HashMap::new();
            for prefix in [slices_prefix(system), wal_prefix(system)] {
                let listed = self.repository.list(&prefix).await?;
                entries.extend(listed.into_iter().map(|entry| (entry.path.clone(), entry)));
            }
            let mut whole = true;
            for path in chosen.wal(&view) {
                if copied.contains(&path) {
                    continue;
                }
                let Some(entry) = entries.get(&path) else {
                    whole = false;
                    continue;
                };
                match self.one(entry).await {
                    Ok(()) => {
                        copied.insert(path);
                    }
                    // Sealed since: the segment itself is listed now.
                    Err(EngineError::Repository(RepositoryError::NotFound { .. })) => whole = false,
                    Err(error) => return Err(error),
                }
            }
            if whole {
                return Ok(());
            }
        }
        Err(EngineError::refused(
            "archive_moves_on",
            "WAL was sealed faster than it could be copied",
            "Try again, or name an earlier end with --through. Nothing was written.",
        ))
    }
}

fn damaged(path: &str, what: &str) -> EngineError {
    EngineError::integrity(
        "snapshot_damaged",
        format!("{path}: {what}"),
        "Run `holdfast verify` to learn what is damaged, and take another snapshot. No bundle was made.",
    )
}

/// Reads every object of the bundle back.
async fn read_back(job: &JobContext, repository: &Repository, bundle: &mut Bundle) -> Result<()> {
    job.reporter.phase("reading back", Some("bytes"), Some(bundle.stats().bytes));
    let copy = repository.at(bundle.settle().await?)?;
    let reporter = job.reporter.clone();
    let report = copy
        .verify(VerifyLevel::Structure, &|progress| reporter.done(progress.bytes_done), &job.cancel)
        .await?;
    match report.findings.iter().find(|finding| finding.severity == Severity::Error) {
        Some(finding) => Err(damaged(&finding.object, &finding.message)),
        None => Ok(()),
    }
}
