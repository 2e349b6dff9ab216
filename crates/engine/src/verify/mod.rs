//! Verify: what is stored is read back, as deep as was asked for, and every part checked against the others.
//!
//! Each depth contains those before it: every object authenticated (structure), every byte decrypted and
//! named anew (data), every snapshot's files put together and compared with what the server said it sent
//! (cluster), their pages and control files checked and the WAL read record by record (pages). What was left
//! out is counted and never passes for checked.

mod dated;
mod rebuild;
mod references;
mod request;
mod wal;

use std::collections::BTreeSet;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use holdfast_repository::{Repository, VerifyLevel};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::archive::ArchiveView;
use crate::bundle::BundleContents;
use crate::cluster::{Cluster, cluster_documents_prefix};
use crate::error::{EngineError, Outcome, Result};
use crate::jobs::{JobContext, JobId, JobKind};
use crate::lease::HeldLease;
use crate::retention::tombstone;
use crate::snapshot::{self, Snapshot};
use crate::{Engine, RepositorySummary};

pub use dated::SnapshotCheck;
pub(crate) use dated::checks_of;
use rebuild::Rebuild;
use references::{Seen, gone};
use request::Scope;
pub use request::{Depth, Sample, VerifyRequest};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Checked {
    /// Objects.
    #[ts(type = "number")]
    pub objects: u64,
    /// Bytes read.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Files of snapshots that were put together and compared; 0 at the levels that do not.
    #[ts(type = "number")]
    pub files: u64,
    /// Pages whose checksum was computed; 0 at the levels that do not look at pages.
    #[ts(type = "number")]
    pub pages: u64,
    /// WAL segments among the objects.
    #[ts(type = "number")]
    pub wal_segments: u64,
    /// WAL records that were read; 0 at the levels that do not look into WAL.
    #[ts(type = "number")]
    pub wal_records: u64,
}

/// How much was left out, because a sample or one snapshot was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Skipped {
    /// Objects of which only the name and size were looked at.
    #[ts(type = "number")]
    pub objects: u64,
    /// Their bytes.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Files of the snapshots that were to be put together.
    #[ts(type = "number")]
    pub files: u64,
}

/// What a verification says of one snapshot.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct VerifiedSnapshot {
    /// Which.
    pub id: String,
    /// Its cluster's name.
    pub cluster: String,
    /// When the server had sent it all.
    #[ts(type = "string")]
    pub finished_at: DateTime<Utc>,
    /// Nothing was found that keeps it from being restored to where it is consistent.
    pub ok: bool,
    /// What keeps it from that.
    pub problem: Option<String>,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct VerifyResult {
    /// Nothing of severity error was found.
    pub ok: bool,
    /// How deep it looked.
    pub level: Depth,
    /// Which part was looked at, such as `1/7`; null when it was all.
    pub sample: Option<String>,
    /// How much it looked at.
    pub checked: Checked,
    /// How much it left out.
    pub skipped: Skipped,
    /// The snapshots it judges, oldest first.
    pub snapshots: Vec<VerifiedSnapshot>,
    /// What it found.
    pub findings: Vec<VerifyFinding>,
    /// What a verification of this depth does not show.
    pub not_shown: Vec<String>,
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
        request: VerifyRequest,
        cancel: CancellationToken,
    ) -> Result<VerifyResult> {
        let engine = self.clone();
        let name = request.cluster.clone();
        self.run_job(JobKind::Verify, name.as_deref(), request.title(), cancel, |job| async move {
            engine.verify_in(job, request).await
        })
        .await
    }

    /// The same in the background.
    ///
    /// # Errors
    /// When the job cannot be recorded.
    pub async fn start_verify(&self, request: VerifyRequest) -> Result<JobId> {
        let engine = self.clone();
        let name = request.cluster.clone();
        self.start_job(JobKind::Verify, name.as_deref(), request.title(), move |job| async move {
            engine.verify_in(job, request).await
        })
        .await
    }

    pub(crate) async fn verify_in(
        &self,
        job: JobContext,
        request: VerifyRequest,
    ) -> Result<VerifyResult> {
        let named = match &request.cluster {
            Some(name) => Some(self.cluster(name).await?),
            None => None,
        };
        let of = named.as_ref().map(|cluster| cluster.repository.to_string());
        let summary = self.find_repository(of.as_deref()).await?;
        let repository = self.open_repository(&summary).await?;
        repository.must_read("verifying")?;
        let clusters: Vec<Cluster> = self
            .clusters()
            .await?
            .into_iter()
            .filter(|cluster| cluster.repository == summary.id)
            .collect();
        let judged: Vec<&Cluster> = clusters
            .iter()
            .filter(|cluster| named.as_ref().is_none_or(|named| named.id == cluster.id))
            .collect();
        let lease = HeldLease::to_read(self, &repository, &job, JobKind::Verify).await;
        let outcome = async {
            let scope = self.scope(&repository, &judged, &request).await?;
            let mut run = Verification {
                job: &job,
                repository: &repository,
                request: &request,
                scope,
                snapshots: Vec::new(),
                result: request.blank(),
            };
            run.objects().await?;
            run.references(self, &summary, &clusters).await?;
            for cluster in judged {
                run.cluster(self, cluster).await?;
            }
            Ok::<_, EngineError>(run.result)
        }
        .await;
        if let Some(lease) = lease {
            lease.release().await;
        }
        let mut result = outcome?;
        result
            .findings
            .sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.object.cmp(&b.object)));
        result.ok = result.findings.iter().all(|f| f.severity != FindingSeverity::Error);
        Ok(result)
    }

    /// What is to be read.
    async fn scope(
        &self,
        repository: &Repository,
        clusters: &[&Cluster],
        request: &VerifyRequest,
    ) -> Result<Scope> {
        let Some(wanted) = request.snapshot else { return Ok(Scope::new(request.sample)) };
        for cluster in clusters {
            let path = format!("{}{wanted}", snapshot::prefix(cluster.id));
            let kind = holdfast_repository::ObjectKind::Snapshot;
            match repository.get_document::<Snapshot>(&path, kind).await {
                Ok(found) => return Scope::of_snapshot(repository, request.sample, found).await,
                Err(holdfast_repository::RepositoryError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::NotFound { what: "snapshot", name: wanted.to_string() })
    }
}

/// One verification on its way.
struct Verification<'a> {
    job: &'a JobContext,
    repository: &'a Repository,
    request: &'a VerifyRequest,
    scope: Scope,
    /// Those whose manifests are whole.
    snapshots: Vec<Snapshot>,
    result: VerifyResult,
}

impl Verification<'_> {
    /// Reads the objects.
    async fn objects(&mut self) -> Result<()> {
        self.job.reporter.phase("reading every object", Some("bytes"), None);
        let level = match self.request.depth {
            Depth::Structure => VerifyLevel::Structure,
            Depth::Data | Depth::Cluster | Depth::Pages => VerifyLevel::Data,
        };
        let seen = Mutex::new(Seen::default());
        let reporter = self.job.reporter.clone();
        let report = self
            .repository
            .verify_observed(
                level,
                &|entry| self.scope.reads(entry),
                &|progress| reporter.done(progress.bytes_done),
                &|object| {
                    let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    seen.add(&object.path, object.kind, &object.metadata);
                },
                &self.job.cancel,
            )
            .await?;
        let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.result.checked.objects = report.objects;
        self.result.checked.bytes = report.bytes;
        self.result.checked.wal_segments = seen.wal_segments;
        self.result.skipped.objects = report.skipped_objects;
        self.result.skipped.bytes = report.skipped_bytes;
        self.result.findings.extend(report.findings.into_iter().map(VerifyFinding::from));
        self.result.findings.extend(seen.findings());
        self.snapshots = seen.snapshots;
        Ok(())
    }

    /// Compares what objects say of each other, and with what was there before.
    async fn references(
        &mut self,
        engine: &Engine,
        summary: &RepositorySummary,
        clusters: &[Cluster],
    ) -> Result<()> {
        self.job.reporter.phase("checking references", None, None);
        let present: BTreeSet<_> =
            self.repository.list("").await?.into_iter().map(|e| e.path).collect();
        let mut known = engine.catalog().known_objects(summary.id).await?;
        match tombstone::removed_objects(engine.catalog(), self.repository).await {
            Ok(removed) => known.retain(|path| present.contains(path) || !removed.contains(path)),
            // One that is damaged was found when the objects were read.
            Err(problem) if is_damage(&problem) => {}
            Err(problem) => return Err(problem),
        }
        let findings = &mut self.result.findings;
        let bundles = match BundleContents::of(self.repository).await {
            Ok(bundles) => bundles,
            // One that is damaged was found when the objects were read.
            Err(problem) if is_damage(&problem) => Vec::new(),
            Err(problem) => return Err(problem),
        };
        findings
            .extend(known.iter().filter(|path| !present.contains(*path)).map(|path| gone(path)));
        for (path, contents) in &bundles {
            if !clusters.iter().any(|cluster| cluster.id == contents.cluster) {
                findings.push(error("missing", path, contents.without_cluster()));
            }
        }
        for cluster in clusters {
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
            for (path, contents) in &bundles {
                if contents.cluster == cluster.id && !present.contains(&contents.path()) {
                    findings.push(error("missing", path, contents.without_snapshot()));
                }
            }
            let found = engine.coverage_findings(cluster, self.repository, &bundles).await?;
            findings.extend(
                found
                    .into_iter()
                    .filter(|f| !known.contains(&f.object) || present.contains(&f.object)),
            );
        }
        Ok(())
    }

    /// Judges the snapshots of a cluster: puts their files together and reads its WAL where that was asked
    /// for, and keeps the outcome in the repository.
    async fn cluster(&mut self, engine: &Engine, cluster: &Cluster) -> Result<()> {
        // Those that are damaged were found when the objects were read.
        let own = |s: &&Snapshot| s.cluster == cluster.id && self.scope.judges(s);
        let mut snapshots: Vec<_> = self.snapshots.iter().filter(own).cloned().collect();
        snapshots.sort_by_key(|s| (s.start_lsn, s.id));
        if self.request.depth >= Depth::Cluster {
            self.rebuild(&snapshots).await?;
        }
        if self.request.depth >= Depth::Pages {
            self.wal(engine, cluster).await?;
        }
        let judged: Vec<_> = snapshots.iter().map(|s| self.judge(cluster, s)).collect();
        if let Err(problem) = self.keep(engine, cluster, &judged).await {
            // What was found is told all the same; a read-only copy of a repository takes no notes.
            self.job.reporter.warning(format!(
                "the outcome could not be kept in the repository: {}",
                problem.to_object().message
            ));
        }
        self.result.snapshots.extend(judged);
        Ok(())
    }

    /// Keeps the outcome in the repository, unless the store failed to give something: that may pass.
    async fn keep(
        &self,
        engine: &Engine,
        cluster: &Cluster,
        judged: &[VerifiedSnapshot],
    ) -> Result<()> {
        if self.request.leave_untouched {
            return Ok(());
        }
        if self.result.findings.iter().any(|f| f.kind == "unreadable") {
            self.job.reporter.warning(
                "the store did not give every object: the outcome is not kept, verify again",
            );
            return Ok(());
        }
        dated::keep(
            engine.catalog(),
            self.repository,
            cluster.id,
            self.request,
            self.scope.is_whole(),
            judged,
        )
        .await
    }

    /// Newest first: what is unchanged in an older one was held to the stricter measure then.
    async fn rebuild(&mut self, snapshots: &[Snapshot]) -> Result<()> {
        let mut rebuild = Rebuild::new(
            self.job,
            self.repository,
            self.request.depth,
            self.request.sample,
            snapshots.len() > 1,
        );
        for snapshot in snapshots.iter().rev() {
            let rebuilt = rebuild.snapshot(snapshot).await?;
            self.result.checked.files += rebuilt.files;
            self.result.checked.pages += rebuilt.pages;
            self.result.skipped.files += rebuilt.skipped;
            self.result.findings.extend(rebuilt.findings);
        }
        Ok(())
    }

    async fn wal(&mut self, engine: &Engine, cluster: &Cluster) -> Result<()> {
        let view = ArchiveView::load(
            engine.catalog(),
            self.repository,
            cluster.system_identifier,
            cluster.segment_size,
        )
        .await;
        match view {
            Ok(view) => {
                let read = wal::read(self.job, self.repository, &view, &self.scope).await?;
                self.result.checked.wal_records += read.records;
                self.result.findings.extend(read.findings);
                Ok(())
            }
            // As for the references: damage is told where it is found, our own trouble is no finding.
            Err(problem @ (EngineError::Catalog { .. } | EngineError::File { .. })) => Err(problem),
            Err(problem) => {
                self.result.findings.push(VerifyFinding {
                    severity: FindingSeverity::Warning,
                    kind: "unchecked".to_owned(),
                    object: format!("{}{}", cluster_documents_prefix(), cluster.id),
                    message: format!(
                        "the WAL of \"{}\" was not read: {}",
                        cluster.name,
                        problem.to_object().message
                    ),
                });
                Ok(())
            }
        }
    }

    /// What the findings say of one snapshot.
    fn judge(&self, cluster: &Cluster, snapshot: &Snapshot) -> VerifiedSnapshot {
        let own = [snapshot.path(), snapshot.file_table.path.clone()];
        let wal = request::wal_of(snapshot);
        let problem = self
            .result
            .findings
            .iter()
            .filter(|f| f.severity == FindingSeverity::Error)
            .find(|f| own.contains(&f.object) || wal.iter().any(|path| f.object.starts_with(path)))
            .map(|f| format!("{}: {}", f.object, f.message));
        VerifiedSnapshot {
            id: snapshot.id.to_string(),
            cluster: cluster.name.clone(),
            finished_at: snapshot.finished_at,
            ok: problem.is_none(),
            problem,
        }
    }
}

impl From<holdfast_repository::Finding> for VerifyFinding {
    fn from(found: holdfast_repository::Finding) -> Self {
        Self {
            severity: match found.severity {
                holdfast_repository::Severity::Info => FindingSeverity::Info,
                holdfast_repository::Severity::Warning => FindingSeverity::Warning,
                holdfast_repository::Severity::Error => FindingSeverity::Error,
            },
            kind: serde_json::to_value(found.kind)
                .ok()
                .and_then(|k| k.as_str().map(ToOwned::to_owned))
                .unwrap_or_default(),
            object: found.object,
            message: found.message,
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

/// Whether an error says that something stored is not what it must be.
fn is_damage(problem: &EngineError) -> bool {
    matches!(problem.outcome(), Outcome::Integrity | Outcome::NotFound)
}

/// A snapshot's id as it stands in a [`VerifiedSnapshot`].
fn id_of(verified: &VerifiedSnapshot) -> Option<Uuid> {
    verified.id.parse().ok()
}
