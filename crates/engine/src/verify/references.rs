//! What objects say of each other: snapshots and their WAL, timelines and their ancestry, what was there before.

use std::collections::BTreeSet;

use holdfast_postgres::{SegmentNo, TimelineHistory};
use holdfast_repository::{ObjectKind, Repository};

use super::{FindingSeverity, VerifyFinding, error};
use crate::Engine;
use crate::archive::ledger::{wal_is_whole, without};
use crate::archive::{ArchiveView, SegmentIndex, history_prefix, segment_path};
use crate::bundle::BundleContents;
use crate::cluster::{Cluster, cluster_documents_prefix};
use crate::error::{EngineError, Result};
use crate::snapshot::Snapshot;

impl Engine {
    /// Whether every snapshot has the WAL it needs, every timeline its history, and every hole its reason.
    pub(super) async fn coverage_findings(
        &self,
        cluster: &Cluster,
        repository: &Repository,
        bundles: &[(String, BundleContents)],
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
            let own = bundles.iter().filter(|(_, contents)| contents.cluster == cluster.id);
            findings.extend(own.filter_map(|(path, contents)| {
                contents.lacks(&view).map(|what| error("missing", path, what))
            }));
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

/// An object that this machine has read before and that is not in the store any more.
pub(super) fn gone(path: &str) -> VerifyFinding {
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

/// Segments that are missing between others, where neither a gap was recorded nor that they were removed.
fn holes(view: &ArchiveView) -> Vec<VerifyFinding> {
    let mut findings = Vec::new();
    for timeline in view.timelines() {
        let runs = view.runs(timeline);
        for (before, after) in runs.iter().zip(runs.iter().skip(1)) {
            let told: Vec<_> = view
                .gaps
                .iter()
                .map(|gap| (gap.timeline, gap.from_lsn, gap.to_lsn))
                .chain(view.retired.iter().map(|r| (r.timeline, r.from_lsn, r.to_lsn)))
                .filter(|(of, ..)| *of == timeline)
                .map(|(_, from, to)| (from, to))
                .collect();
            if without(vec![(before.1, after.0)], &told).is_empty() {
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
pub(super) struct Seen {
    pub(super) wal_segments: u64,
    file_tables: BTreeSet<String>,
    pub(super) snapshots: Vec<Snapshot>,
    misnamed: Vec<String>,
}

impl Seen {
    pub(super) fn add(&mut self, path: &str, kind: ObjectKind, metadata: &serde_json::Value) {
        match kind {
            ObjectKind::FileTable => {
                self.file_tables.insert(path.to_owned());
            }
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
                }
            }
            _ => {}
        }
    }

    pub(super) fn findings(&self) -> Vec<VerifyFinding> {
        let mut findings: Vec<_> = self
            .misnamed
            .iter()
            .map(|p| {
                error("wal_segment", p, "it holds another segment than its name says".to_owned())
            })
            .collect();
        for snapshot in &self.snapshots {
            if !self.file_tables.contains(&snapshot.file_table.path) {
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
