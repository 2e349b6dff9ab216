//! What a cluster can be restored to: snapshots, WAL coverage, restore points, commits.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use holdfast_postgres::{Lsn, TimelineId};
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::archive::ledger::{SnapshotSpan, needs_snapshot};
use crate::archive::{
    ArchiveView, Gap, NeedsSnapshot, PointEvent, SlotState, SystemChange, TransactionEnd,
    TransactionKind,
};
use crate::cluster::Cluster;
use crate::error::Result;
use crate::snapshot::{self, ManifestBy, Proof, Snapshot, SnapshotKind};
use crate::timeline::Freshness;
use crate::verify::SnapshotCheck;

/// How well a recovery point is known to work. Only `Proven` is green.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum PointState {
    /// It was restored and replayed to this point or past it, and checked.
    Proven,
    /// Every byte it needs was read back and authenticated.
    Verified,
    /// Written, not read back.
    Stored,
    /// Restorable with a stated limit.
    Degraded,
    /// It cannot be restored.
    Broken,
    /// It could not be determined.
    Unknown,
}

/// A snapshot for lists.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct SnapshotSummary {
    /// Its id.
    pub id: String,
    /// How it was taken.
    pub kind: SnapshotKind,
    /// When the server was asked to begin.
    #[ts(type = "string")]
    pub started_at: DateTime<Utc>,
    /// When everything was copied.
    #[ts(type = "string")]
    pub finished_at: DateTime<Utc>,
    /// Where replay begins.
    #[ts(type = "string")]
    pub start_lsn: Lsn,
    /// Where it is consistent.
    #[ts(type = "string")]
    pub stop_lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
    /// Whose list of files and checksums its manifest is.
    #[serde(default)]
    pub manifest_by: ManifestBy,
    /// Bytes of all its files.
    #[ts(type = "number")]
    pub bytes_logical: u64,
    /// Bytes it added to the repository.
    #[ts(type = "number")]
    pub bytes_added: u64,
    /// How well it is known to work.
    pub state: PointState,
    /// Its newest proof.
    pub proof: Option<Proof>,
    /// Its newest verification.
    #[serde(default)]
    pub check: Option<SnapshotCheck>,
    /// Why it is kept: words such as `daily` or `hold:ID`; empty when it is not, or where that was not asked.
    pub retained_by: Vec<String>,
    /// Why it was taken.
    pub reason: Option<String>,
    /// Pages in it whose checksum was wrong.
    #[ts(type = "number")]
    pub page_findings: u64,
}

impl SnapshotSummary {
    pub(crate) fn of(snapshot: &Snapshot, proof: Option<&Proof>, retained_by: &[String]) -> Self {
        let mut summary = Self {
            id: snapshot.id.to_string(),
            kind: snapshot.kind,
            started_at: snapshot.started_at,
            finished_at: snapshot.finished_at,
            start_lsn: snapshot.start_lsn,
            stop_lsn: snapshot.stop_lsn,
            timeline: snapshot.timeline.get(),
            manifest_by: snapshot.manifest_by,
            bytes_logical: snapshot.bytes_logical,
            bytes_added: snapshot.bytes_added,
            state: PointState::Unknown,
            proof: None,
            check: None,
            retained_by: retained_by.to_vec(),
            reason: snapshot.reason.clone(),
            page_findings: snapshot.page_findings_total,
        };
        summary.judge(proof.cloned(), None);
        summary
    }

    /// Where its own WAL lies; none when its timeline is none.
    pub(crate) fn span(&self) -> Option<SnapshotSpan> {
        let timeline = TimelineId::new(self.timeline)?;
        Some(SnapshotSpan { timeline, start: self.start_lsn, stop: self.stop_lsn })
    }

    /// Its state by its newest proof, its newest verification and what its pages are like; not yet by the
    /// WAL it needs. A verification that found it damaged outweighs a proof from before.
    pub(crate) fn judge(&mut self, proof: Option<Proof>, check: Option<SnapshotCheck>) {
        let proven = proof.as_ref().map(|proof| proof.at);
        let damaged = check.as_ref().is_some_and(|c| !c.ok && proven.is_none_or(|at| at < c.at));
        self.state = if damaged {
            PointState::Broken
        } else if self.page_findings > 0 {
            PointState::Degraded
        } else if proof.is_some() {
            PointState::Proven
        } else if check.as_ref().is_some_and(|c| c.ok) {
            PointState::Verified
        } else {
            PointState::Stored
        };
        self.proof = proof;
        self.check = check;
    }
}

/// A stretch of WAL without a hole on one timeline.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct CoverageWindow {
    /// The timeline.
    pub timeline: u32,
    /// Commit time of the first transaction in it.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// Commit time of the last transaction in it.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
    /// Its first byte.
    #[ts(type = "string")]
    pub from_lsn: Lsn,
    /// The first byte after it.
    #[ts(type = "string")]
    pub to_lsn: Lsn,
    /// Gaps that touch it.
    pub gaps: Vec<Gap>,
}

/// A named restore point.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct RestorePoint {
    /// Its name.
    pub name: String,
    /// When it was made.
    #[ts(type = "string")]
    pub time: DateTime<Utc>,
    /// Where its record starts.
    #[ts(type = "string")]
    pub lsn: Lsn,
    /// Its timeline.
    pub timeline: u32,
}

/// Everything a cluster can be restored to.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Points {
    /// The cluster.
    pub cluster: String,
    /// WAL without holes, by timeline.
    pub windows: Vec<CoverageWindow>,
    /// Base backups, oldest first.
    pub snapshots: Vec<SnapshotSummary>,
    /// Named restore points, in WAL order.
    pub restore_points: Vec<RestorePoint>,
    /// Every gap on record that was not filled since, bounded by what is archived.
    pub gaps: Vec<Gap>,
    /// Times at which another system answered at the cluster's address.
    pub system_changes: Vec<SystemChange>,
    /// Why a new backup is needed now; null when it is not.
    pub needs_snapshot: Option<NeedsSnapshot>,
    /// Our replication slot as this machine saw it last; null when it never did.
    pub slot: Option<SlotState>,
}

/// What ended at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum CommitKind {
    /// A transaction committed.
    Commit,
    /// A transaction was rolled back.
    Abort,
    /// A restore point was made.
    RestorePoint,
}

/// One transaction end (or restore point) in the archived WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
pub struct Commit {
    /// Where its record starts.
    #[ts(type = "string")]
    pub lsn: Lsn,
    /// Where its record ends.
    #[ts(type = "string")]
    pub end_lsn: Lsn,
    /// The transaction; "0" for a restore point.
    pub xid: String,
    /// The time in the record.
    #[ts(type = "string")]
    pub time: DateTime<Utc>,
    /// What it is.
    pub kind: CommitKind,
    /// A restore point's name.
    pub name: Option<String>,
    /// Its timeline.
    pub timeline: u32,
}

impl Commit {
    pub(crate) fn of(event: &PointEvent) -> Self {
        match event {
            PointEvent::Transaction(timeline, t) => Self::transaction(*timeline, t),
            PointEvent::Point(timeline, p) => Self {
                lsn: p.span.start,
                end_lsn: p.span.end,
                xid: "0".to_owned(),
                time: p.time.to_chrono(),
                kind: CommitKind::RestorePoint,
                name: Some(p.name.clone()),
                timeline: timeline.get(),
            },
        }
    }

    pub(crate) fn transaction(timeline: TimelineId, t: &TransactionEnd) -> Self {
        Self {
            lsn: t.span.start,
            end_lsn: t.span.end,
            xid: t.xid.to_string(),
            time: t.time.to_chrono(),
            kind: match t.kind {
                TransactionKind::Commit => CommitKind::Commit,
                TransactionKind::Abort => CommitKind::Abort,
            },
            name: None,
            timeline: timeline.get(),
        }
    }
}

/// Some commits of the timeline.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct CommitPage {
    /// In WAL order.
    pub commits: Vec<Commit>,
    /// There are earlier ones.
    pub earlier: bool,
    /// There are later ones.
    pub later: bool,
}

/// Commits per span of time.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct Density {
    /// Start of the first bucket.
    #[ts(type = "string")]
    pub from: DateTime<Utc>,
    /// End of the last.
    #[ts(type = "string")]
    pub to: DateTime<Utc>,
    /// Width of one.
    pub bucket_seconds: f64,
    /// Commits in each.
    pub counts: Vec<u32>,
}

impl Engine {
    /// The archive of a cluster as it is listed now.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn archive_view(&self, cluster: &Cluster) -> Result<ArchiveView> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        ArchiveView::load(
            self.catalog(),
            &repository,
            cluster.system_identifier,
            cluster.segment_size,
        )
        .await
    }

    /// The snapshots of a cluster with their newest proofs, oldest first.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn snapshots(&self, cluster: &Cluster) -> Result<Vec<(Snapshot, Option<Proof>)>> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        snapshot::list(self.catalog(), &repository, cluster).await
    }

    /// Everything a cluster can be restored to, or what of it lies between two times.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn points(
        &self,
        name: &str,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<Points> {
        let cluster = self.cluster(name).await?;
        let history = self.history(&cluster, Freshness::Now).await?;
        let within =
            |time: DateTime<Utc>| from.is_none_or(|f| time >= f) && to.is_none_or(|t| time <= t);
        let mut snapshots: Vec<_> =
            history.snapshots.iter().filter(|s| within(s.finished_at)).cloned().collect();
        match self.retained_by(&cluster, Arc::clone(&history)).await {
            Ok(mut retained_by) => {
                for snapshot in &mut snapshots {
                    snapshot.retained_by = retained_by.remove(&snapshot.id).unwrap_or_default();
                }
            }
            // What can be restored is told all the same.
            Err(error) => tracing::warn!(%error, "why snapshots are kept could not be worked out"),
        }
        let mut windows = history.windows();
        windows.retain(|window| {
            window.to.is_none_or(|t| from.is_none_or(|f| t >= f))
                && window.from.is_none_or(|f| to.is_none_or(|t| f <= t))
        });
        let mut restore_points = history.restore_points();
        restore_points.retain(|p| within(p.time));
        Ok(Points {
            slot: crate::archive::safety::last_seen(self.home(), &cluster),
            cluster: cluster.name,
            windows,
            snapshots,
            restore_points,
            gaps: history.view.gaps.clone(),
            system_changes: history.view.changes.clone(),
            needs_snapshot: needs_snapshot(&history.view, &history.spans()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::verify::Depth;

    #[test]
    fn the_newest_word_on_a_snapshot_counts_and_only_a_proof_is_green() {
        let at = |hour: u32| {
            DateTime::parse_from_rfc3339(&format!("2026-06-01T{hour:02}:00:00Z")).unwrap().to_utc()
        };
        let proof = |hour| Proof {
            at: at(hour),
            target: "latest".to_owned(),
            reached_lsn: Lsn(2),
            reached_time: None,
            seconds: 1.0,
            job: String::new(),
        };
        let check = |hour, ok: bool| SnapshotCheck {
            at: at(hour),
            level: Depth::Data,
            ok,
            problem: (!ok).then(String::new),
        };
        let judged = |pages, proof, check| {
            let mut summary = SnapshotSummary {
                id: String::new(),
                kind: SnapshotKind::Full,
                started_at: at(1),
                finished_at: at(1),
                start_lsn: Lsn(1),
                stop_lsn: Lsn(2),
                timeline: 1,
                manifest_by: ManifestBy::Server,
                bytes_logical: 0,
                bytes_added: 0,
                state: PointState::Unknown,
                proof: None,
                check: None,
                retained_by: Vec::new(),
                reason: None,
                page_findings: pages,
            };
            summary.judge(proof, check);
            summary.state
        };
        assert_eq!(judged(0, None, None), PointState::Stored);
        assert_eq!(judged(0, None, Some(check(2, true))), PointState::Verified);
        assert_eq!(judged(0, Some(proof(2)), Some(check(3, true))), PointState::Proven);
        assert_eq!(judged(0, Some(proof(2)), Some(check(3, false))), PointState::Broken);
        assert_eq!(judged(0, Some(proof(4)), Some(check(3, false))), PointState::Proven);
        assert_eq!(judged(1, Some(proof(4)), Some(check(5, true))), PointState::Degraded);
        assert_eq!(judged(1, None, Some(check(5, false))), PointState::Broken);
    }
}
