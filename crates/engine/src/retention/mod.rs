//! Retention: what of a cluster's backups is kept, for how long, and why.
//!
//! A policy says what is wanted, holds what nobody may take away, and the plan what follows from both for
//! every snapshot and every stretch of WAL that is stored. Applying it marks what the plan does not keep, and
//! removes it once the mark is old enough.
//!
//! Words: what a plan does not keep is *dying*. A *tombstone* marks it; it is *due* when its delay has passed, and
//! *lifted* when somebody has taken the mark back (`undelete`). A *sweep* removes what is due, as far as it still
//! dies; of WAL that was removed the ledger says that it is *retired*. `collection` is the lease of whoever does any
//! of this.

mod apply;
mod holds;
pub(crate) mod locks;
mod plan;
mod policy;
mod reason;
mod report;
mod span;
mod sweep;
pub(crate) mod tombstone;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use holdfast_postgres::{SystemIdentifier, TimelineId};
use holdfast_repository::{Repository, SNAPSHOTS_PREFIX};
use uuid::Uuid;

pub use apply::{
    DEFAULT_DELAY, KeptByStore, Locked, Queued, RemovedTotals, RetentionApplied, Undeleted, Waiting,
};
pub use holds::{Held, Hold, parse_hold};
pub use locks::LocksRenewed;
pub use policy::{Keep, MAX_POLICY_BYTES, Override, Policy, PolicyVersion};
pub use reason::Reason;
pub use report::{
    FateTotals, RetentionOutline, RetentionPlan, RetentionSize, SnapshotFate, WalFate,
};
pub use span::Span;
pub use tombstone::parse_mark;

use crate::Engine;
use crate::archive::GapCause;
use crate::archive::ledger::SnapshotSpan;
use crate::cluster::{self, Cluster};
use crate::error::{EngineError, Result};
use crate::points::{PointState, SnapshotSummary};
use crate::snapshot;
use crate::timeline::{Freshness, History};
use plan::{Lineage, Question, SnapshotFacts};

/// What a plan is made from.
struct Stored {
    policy: PolicyVersion,
    holds: Vec<Hold>,
    systems: Vec<System>,
    /// The cluster, and what it was before upgrades.
    own: BTreeSet<Uuid>,
}

/// What is stored of one system identifier.
struct System {
    history: Arc<History>,
    others: Vec<(String, SnapshotSpan)>,
}

impl Engine {
    /// What of a cluster would be kept now, what would not, and why.
    ///
    /// # Errors
    /// When the repository cannot be read: nothing is planned on what is not known.
    pub async fn retention_plan(&self, name: &str) -> Result<RetentionPlan> {
        let cluster = self.cluster(name).await?;
        let history = self.history(&cluster, Freshness::Now).await?;
        let stored = self.stored(&cluster, history).await?;
        planned(cluster, stored, Utc::now()).await
    }

    /// What of that which is stored now would still be kept at a later time, or now when none is given, by the
    /// cluster's policy or by another one. Backups that will be taken until then are not made up.
    ///
    /// # Errors
    /// As [`Engine::retention_plan`]; usage for a time that has passed.
    pub async fn simulate_policy(
        &self,
        name: &str,
        at: Option<DateTime<Utc>>,
        policy: Option<Policy>,
    ) -> Result<RetentionPlan> {
        let now = Utc::now();
        let at = at.unwrap_or(now);
        if at < now {
            return Err(EngineError::usage(
                "that time has passed",
                "A simulation tells what will be left of what is stored now: give a time to come.",
            ));
        }
        let cluster = self.cluster(name).await?;
        let history = self.history(&cluster, Freshness::Now).await?;
        let mut stored = self.stored(&cluster, history).await?;
        if let Some(policy) = policy {
            stored.policy = PolicyVersion { version: 0, set_at: None, policy };
        }
        planned(cluster, stored, at).await
    }

    /// The policy of a cluster that counts now.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn retention_policy(&self, name: &str) -> Result<PolicyVersion> {
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        policy::current(self.catalog(), &repository, cluster.id).await
    }

    /// Sets a cluster's policy; earlier versions stay in the repository.
    ///
    /// # Errors
    /// Usage where it makes no sense; refused when somebody else sets one at the same moment.
    pub async fn set_retention_policy(&self, name: &str, policy: Policy) -> Result<PolicyVersion> {
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        policy::set(self.catalog(), &repository, cluster.id, policy).await
    }

    /// The holds on a cluster that are not lifted, oldest first.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub async fn holds(&self, name: &str) -> Result<Vec<Hold>> {
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        holds::list(self.catalog(), &repository, cluster.id).await
    }

    /// Places a hold.
    ///
    /// # Errors
    /// Usage where it makes no sense; [`EngineError::NotFound`] for a snapshot that is not there.
    pub async fn add_hold(&self, name: &str, on: Held, reason: &str) -> Result<Hold> {
        let hold = Hold::new(on, reason)?;
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        if let Held::Snapshot(id) = on {
            let known = repository.list(&snapshot::prefix(cluster.id)).await?;
            let path = format!("{}{id}", snapshot::prefix(cluster.id));
            if !known.iter().any(|entry| entry.path == path) {
                return Err(EngineError::NotFound { what: "snapshot", name: id.to_string() });
            }
        }
        holds::place(&repository, cluster.id, &hold).await?;
        // Whoever removes reads the holds before it says what it removes.
        let (snapshot, what) = match on {
            Held::Snapshot(id) => (Some(id), format!("snapshot {id} is being removed")),
            Held::Between { .. } => (None, "something is being removed".to_owned()),
        };
        if tombstone::is_being_removed(self.catalog(), &repository, snapshot).await? {
            holds::lift(&repository, cluster.id, hold.id).await?;
            return Err(EngineError::refused(
                tombstone::BEGUN,
                format!(
                    "{what}: the hold was not placed, since it might not hold all that it names"
                ),
                "Place it again when the removal has ended (`holdfast retention queue`). What is removed here is in a \
                 replica until the next replication.",
            ));
        }
        Ok(hold)
    }

    /// Lifts a hold.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] where there is none of this id.
    pub async fn remove_hold(&self, name: &str, hold: Uuid) -> Result<Hold> {
        let cluster = self.cluster(name).await?;
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let placed = holds::list(self.catalog(), &repository, cluster.id).await?;
        let found = placed
            .into_iter()
            .find(|placed| placed.id == hold)
            .ok_or_else(|| holds::no_hold(&hold.to_string()))?;
        holds::lift(&repository, cluster.id, hold).await?;
        Ok(found)
    }

    /// Why each snapshot of a cluster is kept, by its id.
    ///
    /// # Errors
    /// As [`Engine::retention_plan`].
    pub(crate) async fn retained_by(
        &self,
        cluster: &Cluster,
        history: Arc<History>,
    ) -> Result<HashMap<String, Vec<String>>> {
        let stored = self.stored(cluster, history).await?;
        let fates = planned(cluster.clone(), stored, Utc::now()).await?.snapshots;
        Ok(fates
            .into_iter()
            .filter(|fate| fate.kept)
            .map(|fate| (fate.id, fate.reasons.iter().map(Reason::tag).collect()))
            .collect())
    }

    /// Reads what a plan is made from.
    async fn stored(&self, cluster: &Cluster, history: Arc<History>) -> Result<Stored> {
        let (_, repository) = self.repository_by_id(cluster.repository).await?;
        let policy = policy::current(self.catalog(), &repository, cluster.id).await?;
        let mut holds = holds::list(self.catalog(), &repository, cluster.id).await?;
        let documents = cluster::newest_documents(&repository).await?;
        let mut histories = Vec::new();
        let mut own = BTreeSet::from([cluster.id]);
        for earlier in documents.iter().filter(|d| is_earlier(d, cluster, &documents)) {
            let found = self.history(earlier, Freshness::Now).await?;
            // Only what the ledger says was upgraded: another server may have the same name.
            let upgraded = found.view.changes.iter().any(|change| {
                change.cause == GapCause::Upgrade
                    && change.found == cluster.system_identifier.to_string()
            });
            if upgraded {
                holds.extend(holds::list(self.catalog(), &repository, earlier.id).await?);
                own.insert(earlier.id);
                histories.push(found);
            }
        }
        histories.push(history);
        let wanted: BTreeSet<_> = histories.iter().map(|h| h.view.system).collect();
        let others = self.other_snapshots(&repository, cluster, &documents, &own, &wanted).await?;
        let systems = histories
            .into_iter()
            .map(|history| System {
                others: others
                    .iter()
                    .filter(|(system, ..)| *system == history.view.system)
                    .map(|(_, name, span)| (name.clone(), *span))
                    .collect(),
                history,
            })
            .collect();
        Ok(Stored { policy, holds, systems, own })
    }

    /// The cluster, and those that may be what it was before an upgrade.
    async fn own_clusters(
        &self,
        repository: &Repository,
        cluster: &Cluster,
    ) -> Result<BTreeSet<Uuid>> {
        let documents = cluster::newest_documents(repository).await?;
        let earlier = documents.iter().filter(|d| is_earlier(d, cluster, &documents));
        Ok(earlier.map(|document| document.id).chain([cluster.id]).collect())
    }

    /// Snapshots of other clusters in the repository that have one of these system identifiers.
    async fn other_snapshots(
        &self,
        repository: &Repository,
        cluster: &Cluster,
        documents: &[Cluster],
        own: &BTreeSet<Uuid>,
        systems: &BTreeSet<SystemIdentifier>,
    ) -> Result<Vec<(SystemIdentifier, String, SnapshotSpan)>> {
        let ids: BTreeSet<Uuid> = repository
            .list(SNAPSHOTS_PREFIX)
            .await?
            .iter()
            .filter_map(|entry| entry.path.split('/').nth(1)?.parse().ok())
            .filter(|id| !own.contains(id))
            .collect();
        let mut found = Vec::new();
        for id in ids {
            let document = documents.iter().find(|document| document.id == id);
            if document.is_some_and(|d| !systems.contains(&d.system_identifier)) {
                continue;
            }
            // Whose document is gone: only its snapshots say which system they are of.
            let name = document.map_or_else(|| id.to_string(), |d| d.name.clone());
            let other = Cluster { id, name: name.clone(), ..cluster.clone() };
            for (manifest, _) in snapshot::list(self.catalog(), repository, &other).await? {
                if systems.contains(&manifest.system_identifier) {
                    let span = SnapshotSpan::from(&manifest);
                    found.push((manifest.system_identifier, name.clone(), span));
                }
            }
        }
        Ok(found)
    }
}

/// Whether a cluster may be what `cluster` was before an upgrade: it had the name that `cluster` has in the
/// repository, and another system identifier.
fn is_earlier(candidate: &Cluster, cluster: &Cluster, documents: &[Cluster]) -> bool {
    let name = documents.iter().find(|d| d.id == cluster.id).map_or(&cluster.name, |d| &d.name);
    candidate.id != cluster.id
        && candidate.name == *name
        && candidate.system_identifier != cluster.system_identifier
}

fn facts(summary: &SnapshotSummary) -> SnapshotFacts {
    SnapshotFacts {
        id: summary.id.clone(),
        span: summary.span().unwrap_or(SnapshotSpan {
            timeline: TimelineId::FIRST,
            start: summary.start_lsn,
            stop: summary.stop_lsn,
        }),
        started_at: summary.started_at,
        finished_at: summary.finished_at,
        bytes_added: summary.bytes_added,
        degraded: summary.page_findings > 0
            || summary.state == PointState::Degraded
            || summary.check.as_ref().is_some_and(|check| !check.ok),
    }
}

/// Plans on a thread that may take its time: there may be years of WAL.
async fn planned(cluster: Cluster, stored: Stored, now: DateTime<Utc>) -> Result<RetentionPlan> {
    tokio::task::spawn_blocking(move || plan_of(&cluster, &stored, now))
        .await
        .map_err(|e| EngineError::Fault(format!("retention was not planned: {e}")))
}

fn plan_of(cluster: &Cluster, stored: &Stored, now: DateTime<Utc>) -> RetentionPlan {
    let lineages: Vec<_> = stored
        .systems
        .iter()
        .map(|system| Lineage {
            view: &system.history.view,
            times: system.history.segment_times(),
            snapshots: system.history.snapshots.iter().map(facts).collect(),
            others: system.others.clone(),
        })
        .collect();
    let decision = plan::decide(&Question {
        lineages: &lineages,
        current: cluster.system_identifier,
        policy: &stored.policy.policy,
        holds: &stored.holds,
        now,
    });
    let own = stored.own.clone();
    report::report(cluster, own, &stored.policy, now, &lineages, decision)
}
