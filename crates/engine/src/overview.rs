//! The recoverability of every cluster, computed from what is in the repository.

use chrono::{DateTime, Utc};
use holdfast_postgres::Lsn;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::archive::ledger::{is_on, needs_snapshot};
use crate::archive::{NeedsSnapshot, SlotState};
use crate::cluster::{Cluster, ClusterSummary};
use crate::error::{ErrorObject, Result};
use crate::jobs::{JobKind, JobState};
use crate::points::{PointState, SnapshotSummary};
use crate::snapshot::Proof;
use crate::timeline::Freshness;

/// One cluster on the overview.
#[derive(Debug, Clone, Serialize, Deserialize, ts_rs::TS)]
pub struct ClusterOverview {
    /// The cluster.
    pub cluster: ClusterSummary,
    /// The state of its newest reachable point.
    pub state: PointState,
    /// Time of the last commit that is durable and reachable from a snapshot.
    #[ts(type = "string | null")]
    pub recoverable_to: Option<DateTime<Utc>>,
    /// The end of the WAL that is reachable from a snapshot.
    #[ts(type = "string | null")]
    pub recoverable_to_lsn: Option<Lsn>,
    /// How old that commit is now.
    pub recoverable_age_seconds: Option<f64>,
    /// When the oldest snapshot that can be restored was consistent.
    #[ts(type = "string | null")]
    pub oldest_recoverable: Option<DateTime<Utc>>,
    /// The newest snapshot.
    pub last_snapshot: Option<SnapshotSummary>,
    /// The newest proof of any snapshot.
    pub last_proof: Option<Proof>,
    /// Gaps on record.
    pub gaps: u32,
    /// Whether a job of this machine streams its WAL now.
    pub archiving: bool,
    /// Bytes that the server has written and the repository does not have, when that is known.
    #[ts(type = "number | null")]
    pub archive_lag_bytes: Option<u64>,
    /// Why a new backup is needed now; null when it is not.
    pub needs_snapshot: Option<NeedsSnapshot>,
    /// Our replication slot as this machine saw it last; null when it never did.
    pub slot: Option<SlotState>,
    /// How many snapshots there are.
    pub snapshots: u32,
    /// Bytes that its snapshots added.
    #[ts(type = "number")]
    pub bytes_stored: u64,
    /// Why the state could not be determined.
    pub problem: Option<ErrorObject>,
    /// The state as a sentence.
    pub sentence: String,
}

impl Engine {
    /// Every cluster, the worst first.
    ///
    /// A cluster whose state cannot be determined is `unknown`, with the reason; that is no error.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn overview(&self) -> Result<Vec<ClusterOverview>> {
        let jobs = self.jobs().await?;
        let mut all = Vec::new();
        for cluster in self.clusters().await? {
            let archiving = jobs.iter().any(|j| {
                j.kind == JobKind::Archive
                    && j.state == JobState::Running
                    && j.cluster.as_deref() == Some(&cluster.name)
            });
            all.push(match self.look_at(&cluster, archiving).await {
                Ok(overview) => overview,
                Err(error) => self.unknown(&cluster, archiving, error.to_object()).await?,
            });
        }
        all.sort_by_key(|o| std::cmp::Reverse(severity(o.state)));
        Ok(all)
    }

    async fn unknown(
        &self,
        cluster: &Cluster,
        archiving: bool,
        problem: ErrorObject,
    ) -> Result<ClusterOverview> {
        Ok(ClusterOverview {
            cluster: self.cluster_summary(cluster).await?,
            state: PointState::Unknown,
            recoverable_to: None,
            recoverable_to_lsn: None,
            recoverable_age_seconds: None,
            oldest_recoverable: None,
            last_snapshot: None,
            last_proof: None,
            gaps: 0,
            archiving,
            archive_lag_bytes: None,
            needs_snapshot: None,
            slot: crate::archive::safety::last_seen(self.home(), cluster),
            snapshots: 0,
            bytes_stored: 0,
            sentence: "Unknown: the repository could not be read".to_owned(),
            problem: Some(problem),
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "an age in seconds")]
    async fn look_at(&self, cluster: &Cluster, archiving: bool) -> Result<ClusterOverview> {
        let history = self.history(cluster, Freshness::Now).await?;
        let (view, snapshots) = (&history.view, &history.snapshots);
        let now = Utc::now();
        let whole = |s: &&SnapshotSummary| s.state != PointState::Broken;
        let newest = snapshots.iter().rev().find(whole);
        let oldest = snapshots.iter().find(whole);
        let last_proof = snapshots.iter().filter_map(|s| s.proof.clone()).max_by_key(|p| p.at);
        let mut state = PointState::Broken;
        let mut damaged_pages = false;
        let mut recoverable_to = None;
        let mut recoverable_to_lsn = None;
        let needs = needs_snapshot(view, &history.spans());
        if let Some((snapshot, span)) = newest.and_then(|s| Some((s, s.span()?))) {
            // Along the newest timeline when the snapshot leads to it.
            let legs = view
                .newest_timeline()
                .and_then(|timeline| view.path(timeline).ok())
                .filter(|legs| is_on(legs, span))
                .map_or_else(|| view.path(span.timeline), Ok)?;
            let end = view.reachable_from(&legs, snapshot.start_lsn);
            recoverable_to_lsn = Some(end);
            recoverable_to = history
                .last_commit(self, &legs, snapshot.start_lsn, end)
                .await?
                .or(Some(snapshot.finished_at));
            let last = view.last_record(&legs, snapshot.start_lsn, end).map_or(end, |r| r.end);
            // Proven only where a restore has been to this point or past it.
            damaged_pages = snapshot.page_findings > 0;
            state = match &snapshot.proof {
                _ if damaged_pages => PointState::Degraded,
                // What was written after a gap cannot be restored, however well the rest is proven.
                _ if needs.is_some() => PointState::Degraded,
                Some(proof) if proof.reached_lsn >= last => PointState::Proven,
                _ => PointState::Stored,
            };
        }
        let standing = Standing {
            state,
            damaged_pages,
            to: recoverable_to,
            proof: last_proof.as_ref(),
            snapshots: snapshots.len(),
            needs: needs.as_ref(),
        };
        let sentence = standing.sentence(now);
        Ok(ClusterOverview {
            cluster: self.cluster_summary(cluster).await?,
            state,
            recoverable_to,
            recoverable_to_lsn,
            recoverable_age_seconds: recoverable_to
                .map(|t| (now - t).num_milliseconds().max(0) as f64 / 1000.0),
            oldest_recoverable: oldest.map(|s| s.finished_at),
            last_snapshot: snapshots.last().cloned(),
            last_proof,
            gaps: u32::try_from(view.gaps.len()).unwrap_or(u32::MAX),
            archiving,
            archive_lag_bytes: None,
            needs_snapshot: needs,
            slot: crate::archive::safety::last_seen(self.home(), cluster),
            snapshots: u32::try_from(snapshots.len()).unwrap_or(u32::MAX),
            bytes_stored: snapshots.iter().map(|s| s.bytes_added).sum(),
            problem: None,
            sentence,
        })
    }
}

/// How bad a state is; the worst has the largest number.
pub(crate) fn severity(state: PointState) -> u8 {
    match state {
        PointState::Broken => 5,
        PointState::Unknown => 4,
        PointState::Degraded => 3,
        PointState::Stored => 2,
        PointState::Verified => 1,
        PointState::Proven => 0,
    }
}

/// What is known of a cluster's recoverability.
struct Standing<'a> {
    state: PointState,
    /// The newest backup holds pages whose checksum is wrong.
    damaged_pages: bool,
    /// The last commit that can be reached.
    to: Option<DateTime<Utc>>,
    proof: Option<&'a Proof>,
    snapshots: usize,
    needs: Option<&'a NeedsSnapshot>,
}

impl Standing<'_> {
    /// The same in one sentence, which claims no more than is known.
    fn sentence(&self, now: DateTime<Utc>) -> String {
        let Some(to) = self.to else {
            return if self.snapshots == 0 {
                "Not recoverable: there is no backup yet".to_owned()
            } else {
                "Not recoverable: no backup has all the WAL it needs".to_owned()
            };
        };
        let proven = match (self.state, self.proof) {
            (PointState::Proven, _) => "proven by a restore to this point".to_owned(),
            (_, Some(p)) => format!("last proven {} ago", ago(now - p.at)),
            (_, None) => "never proven by a restore".to_owned(),
        };
        let damage = if self.damaged_pages { " with damaged pages" } else { "" };
        let needed = self.needs.map_or_else(String::new, |needs| {
            format!(" · A new backup is needed: {}", needs.message)
        });
        format!(
            "Recoverable{damage} to {} UTC ({} ago) · {proven}{needed}",
            to.format("%Y-%m-%d %H:%M:%S"),
            ago(now - to)
        )
    }
}

fn ago(span: chrono::TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::NeedsSnapshotReason;

    #[test]
    fn the_sentence_never_claims_more_than_is_known() {
        let now = Utc::now();
        let told = |state, to, damaged_pages, needs| {
            Standing { state, damaged_pages, to, proof: None, snapshots: 1, needs }.sentence(now)
        };
        assert!(told(PointState::Broken, None, false, None).starts_with("Not recoverable"));
        let text = told(PointState::Stored, Some(now), false, None);
        assert!(text.contains("never proven") && !text.contains("damaged"), "{text}");
        let text = told(PointState::Degraded, Some(now), true, None);
        assert!(text.starts_with("Recoverable with damaged pages to"), "{text}");
        let needs = NeedsSnapshot {
            reason: NeedsSnapshotReason::Gap,
            message: "WAL was lost".to_owned(),
            gap: None,
        };
        let text = told(PointState::Degraded, Some(now), false, Some(&needs));
        assert!(text.ends_with("A new backup is needed: WAL was lost"), "{text}");
        assert!(!text.contains("damaged"), "{text}");
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(ago(chrono::TimeDelta::seconds(23)), "23 s");
        assert_eq!(ago(chrono::TimeDelta::hours(50)), "2 d");
    }
}
