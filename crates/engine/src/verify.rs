//! Verify: every object read back, every byte authenticated, snapshots and WAL checked against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use holdfast_postgres::{SegmentNo, TimelineHistory};
use holdfast_repository::{ObjectKind, Repository, VerifyLevel};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::archive::ledger::wal_is_whole;
use crate::archive::{ArchiveView, SegmentIndex, history_prefix, segment_path};
use crate::cluster::{Cluster, cluster_documents_prefix};
use crate::error::{EngineError, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::snapshot::Snapshot;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    /// Names, signatures, references.
    Structure,
    /// Every byte.
    #[default]
    Data,
}

impl Depth {
    fn as_str(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Data => "data",
        }
    }
}

impl std::str::FromStr for Depth {
    type Err = EngineError;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "structure" => Ok(Self::Structure),
            "data" => Ok(Self::Data),
            other => {
                Err(EngineError::usage(format!("{other:?} is no level"), "Use structure or data."))
            }
        }
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum FindingSeverity {
    /// Worth knowing.
    Info,
    /// Works, with a limit.
    Warning,
    /// Something stored is not what it must be.
    Error,
}

/// One finding.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct VerifyFinding {
    /// How much it matters.
    pub severity: FindingSeverity,
    /// What kind of thing is concerned.
    pub kind: String,
    /// Which object.
    pub object: String,
    /// What is wrong and what follows from it.
    pub message: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ts_rs::TS)]
pub struct Checked {
    /// Objects.
    #[ts(type = "number")]
    pub objects: u64,
    /// Bytes read.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Pages whose checksum was computed; 0 at the levels that do not look at pages.
    #[ts(type = "number")]
    pub pages: u64,
    /// WAL segments among the objects.
    #[ts(type = "number")]
    pub wal_segments: u64,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct VerifyResult {
    /// Nothing of severity error was found.
    pub ok: bool,
    /// How deep it looked.
    pub level: String,
    /// How much it looked at.
    pub checked: Checked,
    /// What it found.
    pub findings: Vec<VerifyFinding>,
}

impl VerifyResult {
    /// The error that a finding of severity error is for a command.
    pub fn as_error(&self) -> Option<EngineError> {
        let worst = self.findings.iter().find(|f| f.severity == FindingSeverity::Error)?;
        Some(EngineError::integrity(
            "verification_failed",
            format!("{}: {}", worst.object, worst.message),
            "Restore from another copy of the repository, or from a snapshot that does not need this object.",
        ))
    }
}

impl Engine {
    /// Verifies the repository of a cluster, or the only one there is.
    ///
    /// # Errors
    /// When the repository cannot be opened or listed. Damage is a finding.
    pub async fn verify(
        &self,
        cluster: Option<&str>,
        depth: Depth,
        cancel: CancellationToken,
    ) -> Result<VerifyResult> {
        let engine = self.clone();
        let name = cluster.map(ToOwned::to_owned);
        self.run_job(JobKind::Verify, cluster, "Verify".to_owned(), cancel, |job| async move {
            engine.verify_in(job, name.as_deref(), depth).await
        })
        .await
    }

    /// The same in the background.
    ///
    /// # Errors
    /// When the job cannot be recorded.
    pub async fn start_verify(&self, cluster: Option<&str>, depth: Depth) -> Result<JobId> {
        let engine = self.clone();
        let name = cluster.map(ToOwned::to_owned);
        self.start_job(JobKind::Verify, cluster, "Verify".to_owned(), move |job| async move {
            engine.verify_in(job, name.as_deref(), depth).await
        })
        .await
    }

    async fn verify_in(
        &self,
        job: JobContext,
        cluster: Option<&str>,
        depth: Depth,
    ) -> Result<VerifyResult> {
        let summary = match cluster {
            Some(name) => {
                let cluster = self.cluster(name).await?;
                self.find_repository(Some(&cluster.repository.to_string())).await?
            }
            None => self.find_repository(None).await?,
        };
        let repository = self.open_repository(&summary).await?;
        job.reporter.phase("reading every object", Some("bytes"), None);
        let level = match depth {
            Depth::Structure => VerifyLevel::Structure,
            Depth::Data => VerifyLevel::Data,
        };
        let seen = Mutex::new(Seen::default());
        let reporter = job.reporter.clone();
        let report = repository
            .verify_observed(
                level,
                &|progress| reporter.done(progress.bytes_done),
                &|object| {
                    let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    seen.add(&object.path, object.kind, &object.metadata);
                },
                &job.cancel,
            )
            .await?;
        job.reporter.phase("checking references", None, None);
        let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut findings: Vec<_> = report
            .findings
            .into_iter()
            .map(|f| VerifyFinding {
                severity: match f.severity {
                    holdfast_repository::Severity::Info => FindingSeverity::Info,
                    holdfast_repository::Severity::Warning => FindingSeverity::Warning,
                    holdfast_repository::Severity::Error => FindingSeverity::Error,
                },
                kind: serde_json::to_value(f.kind)
                    .ok()
                    .and_then(|k| k.as_str().map(ToOwned::to_owned))
                    .unwrap_or_default(),
                object: f.object,
                message: f.message,
            })
            .collect();
        findings.extend(seen.findings());
        let present: BTreeSet<_> = repository.list("").await?.into_iter().map(|e| e.path).collect();
        let known = self.catalog().known_objects(summary.id).await?;
        findings
            .extend(known.iter().filter(|path| !present.contains(*path)).map(|path| gone(path)));
        for cluster in self.clusters().await?.into_iter().filter(|c| c.repository == summary.id) {
            let documents = format!("{}{}/", cluster_documents_prefix(), cluster.id);
            if !present.iter().any(|path| path.starts_with(&documents)) {
                findings.push(error(
                    "missing",
                    &documents,
                    format!(
                        "the document of cluster \"{}\" is gone: another machine that attaches this repository would \
                         not find its backups",
                        cluster.name
                    ),
                ));
            }
            let found = self.coverage_findings(&cluster, &repository).await?;
            findings.extend(
                found
                    .into_iter()
                    .filter(|f| !known.contains(&f.object) || present.contains(&f.object)),
            );
        }
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.object.cmp(&b.object)));
        Ok(VerifyResult {
            ok: findings.iter().all(|f| f.severity != FindingSeverity::Error),
            level: depth.as_str().to_owned(),
            checked: Checked {
                objects: report.objects,
                bytes: report.bytes,
                pages: 0,
                wal_segments: seen.wal_segments,
            },
            findings,
        })
    }

    /// Whether every snapshot has the WAL it needs, every timeline its history, and every hole its reason.
    async fn coverage_findings(
        &self,
        cluster: &Cluster,
        repository: &Repository,
    ) -> Result<Vec<VerifyFinding>> {
        let looked = async {
            let view = ArchiveView::load(
                self.catalog(),
                repository,
                cluster.system_identifier,
                cluster.segment_size,
            )
            .await?;
            let snapshots = crate::snapshot::list(self.catalog(), repository, cluster).await?;
            let mut findings = holes(&view);
            for timeline in
                view.timelines().filter(|t| t.get() > 1 && !view.histories.contains_key(t))
            {
                let path = format!(
                    "{}{}",
                    history_prefix(view.system),
                    TimelineHistory::file_name(timeline)
                );
                let message = format!(
                    "the ancestry of timeline {timeline} is missing: no point on this timeline can be reached"
                );
                findings.push(error("missing", &path, message));
            }
            for (snapshot, _) in snapshots.iter().filter(|(s, _)| !wal_is_whole(&view, s.into())) {
                let message = format!(
                    "WAL from {} to {} is not all there: this snapshot cannot be restored",
                    snapshot.start_lsn, snapshot.stop_lsn
                );
                findings.push(error("wal", &snapshot.path(), message));
            }
            Ok::<_, EngineError>(findings)
        };
        match looked.await {
            Ok(findings) => Ok(findings),
            // This machine's own trouble says nothing of the repository: nothing was verified.
            Err(problem @ (EngineError::Catalog { .. } | EngineError::File { .. })) => Err(problem),
            // What is damaged is a finding of its own; this says what was not looked at because of it.
            Err(problem) => Ok(vec![VerifyFinding {
                severity: FindingSeverity::Warning,
                kind: "unchecked".to_owned(),
                object: format!("{}{}", cluster_documents_prefix(), cluster.id),
                message: format!(
                    "whether the snapshots of \"{}\" have their WAL could not be checked: {}",
                    cluster.name,
                    problem.to_object().message
                ),
            }]),
        }
    }
}

fn error(kind: &str, object: &str, message: String) -> VerifyFinding {
    VerifyFinding {
        severity: FindingSeverity::Error,
        kind: kind.to_owned(),
        object: object.to_owned(),
        message,
    }
}

/// An object that this machine has read before and that is not in the store any more.
fn gone(path: &str) -> VerifyFinding {
    let consequence = match path.split('/').next().unwrap_or_default() {
        "snapshots" => "this snapshot cannot be restored from this copy of the repository",
        "wal" => "points that need this WAL cannot be restored from this copy of the repository",
        "proofs" => "what it proved is not shown as proven any more",
        "coverage" => "the gap that it records looks like damage now",
        "policies" => "what it says is to be kept counts no longer",
        _ => "what it held cannot be used",
    };
    error("missing", path, format!("it was in the repository and is missing now; {consequence}"))
}

/// At most this many missing segments of one hole are named.
const NAMED_SEGMENTS: u64 = 16;

/// Segments that are missing between others, where no gap was recorded.
fn holes(view: &ArchiveView) -> Vec<VerifyFinding> {
    let mut findings = Vec::new();
    for timeline in view.timelines() {
        let runs = view.runs(timeline);
        for (before, after) in runs.iter().zip(runs.iter().skip(1)) {
            let recorded = view.gaps.iter().any(|gap| {
                gap.timeline == timeline && gap.from_lsn <= before.1 && gap.to_lsn >= after.0
            });
            if recorded {
                continue;
            }
            let first = view.segment_size.segment_of(before.1);
            let last = view.segment_size.segment_of(after.0);
            for number in
                (first.0..last.0).take(usize::try_from(NAMED_SEGMENTS).unwrap_or(usize::MAX))
            {
                let path =
                    segment_path(view.system, timeline, SegmentNo(number), view.segment_size);
                let message = format!(
                    "WAL from {} to {} is missing and no gap was recorded there; points after it cannot be reached from \
                     snapshots before it",
                    before.1, after.0
                );
                findings.push(error("missing", &path, message));
            }
        }
    }
    findings
}

/// What passed by while every object was read.
#[derive(Default)]
struct Seen {
    wal_segments: u64,
    names: BTreeSet<String>,
    snapshots: Vec<Snapshot>,
    indexes: BTreeMap<String, SegmentIndex>,
    misnamed: Vec<String>,
}

impl Seen {
    fn add(&mut self, path: &str, kind: ObjectKind, metadata: &serde_json::Value) {
        self.names.insert(path.to_owned());
        match kind {
            ObjectKind::Snapshot => {
                if let Ok(snapshot) = serde_json::from_value::<Snapshot>(metadata.clone()) {
                    self.snapshots.push(snapshot);
                }
            }
            ObjectKind::WalSegment => {
                self.wal_segments += 1;
                if let Ok(index) = serde_json::from_value::<SegmentIndex>(metadata.clone()) {
                    let name = holdfast_postgres::WalFileName {
                        timeline: index.timeline,
                        segment: index.segment,
                    }
                    .render(index.segment_size);
                    if !path.contains(&name) {
                        self.misnamed.push(path.to_owned());
                    }
                    self.indexes.insert(path.to_owned(), index);
                }
            }
            _ => {}
        }
    }

    fn findings(&self) -> Vec<VerifyFinding> {
        let mut findings: Vec<_> = self
            .misnamed
            .iter()
            .map(|p| {
                error("wal_segment", p, "it holds another segment than its name says".to_owned())
            })
            .collect();
        for snapshot in &self.snapshots {
            if !self.names.contains(&snapshot.file_table.path) {
                findings.push(error(
                    "snapshot",
                    &snapshot.path(),
                    format!(
                        "its list of files ({}) is missing or damaged: it cannot be restored",
                        snapshot.file_table.path
                    ),
                ));
            }
        }
        findings
    }
}
