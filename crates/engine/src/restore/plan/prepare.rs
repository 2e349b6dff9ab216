//! Preparing a restore: everything that its run needs is resolved, checked and collected; nothing is written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use holdfast_postgres::{Lsn, TimelineId, WalFileName, WalPatch};
use holdfast_repository::Repository;
use serde_json::json;

use super::choose::{Chosen, choose, timeline_at, wal_files};
use super::loss::loss;
use super::refusal::refuse_minimal;
use super::steps::{command, steps};
use super::{ReachedPoint, RestorePlan};
use crate::Engine;
use crate::archive::{ArchiveView, Leg, TransactionEnd};
use crate::cluster::Cluster;
use crate::disk::free_space;
use crate::error::{EngineError, Result};
use crate::points::{Commit, SnapshotSummary};
use crate::restore::destination::{absolute, check_destination, repository_folder};
use crate::restore::in_place::{self, Placement};
use crate::restore::request::RestoreRequest;
use crate::restore::resolve::{self, Stop};
use crate::restore::tablespace;
use crate::restore::{delta, host};
use crate::server::binaries::{self, ServerBinaries};
use crate::server::private::blocking;
use crate::snapshot::Snapshot;
use crate::target::Target;

/// A plan with what its execution needs.
pub(crate) struct Prepared {
    pub(crate) plan: RestorePlan,
    pub(crate) request: RestoreRequest,
    pub(crate) cluster: Cluster,
    pub(crate) repository: Repository,
    pub(crate) snapshot: Snapshot,
    pub(crate) view: Arc<ArchiveView>,
    pub(crate) legs: Vec<Leg>,
    pub(crate) stop: Stop,
    pub(crate) wal: Vec<WalFileName>,
    /// The transaction end whose time PostgreSQL will have noted last.
    pub(crate) last_noted_transaction: Option<TransactionEnd>,
    /// What is served otherwise than it is archived.
    pub(crate) patches: Vec<WalPatch>,
}

impl Prepared {
    /// Where replay ends.
    pub(crate) fn end(&self) -> Lsn {
        self.stop.end(self.snapshot.stop_lsn)
    }

    /// The LSN that "latest" was pinned to.
    pub(crate) fn pinned(&self) -> Option<Lsn> {
        self.stop.at.filter(|_| self.request.target == Target::Latest).map(|r| r.start)
    }

    pub(crate) fn timeline(&self) -> TimelineId {
        self.legs.last().map_or(self.snapshot.timeline, |l| l.timeline)
    }
}

/// What a preparation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be shown.
    Plan,
    /// To be run.
    Run,
    /// To go on: what stands at the destination is this restore's own.
    Resume,
}

impl Engine {
    /// Resolves, checks and collects everything; writes nothing.
    pub(crate) async fn prepare(
        &self,
        request: RestoreRequest,
        pinned: Option<Lsn>,
        purpose: Purpose,
    ) -> Result<Prepared> {
        if request.exclusive
            && matches!(request.target, Target::Latest | Target::Immediate | Target::Name(_))
        {
            return Err(EngineError::usage(
                format!("{} cannot be exclusive", request.target),
                "PostgreSQL leaves out a time, a transaction or an LSN; use one of those, or no --exclusive.",
            ));
        }
        let destination = absolute(&request.destination)?;
        let cluster = self.cluster(&request.cluster).await?;
        let (summary, repository) = self.repository_by_id(cluster.repository).await?;
        repository.must_read("restoring")?;
        let system = cluster.system_identifier;
        let own = [self.home().root().to_path_buf(), repository_folder(&summary.url)];
        match request.placement {
            _ if purpose == Purpose::Resume => {}
            Placement::New => check_destination(&destination)?,
            Placement::InPlace => in_place::check(&destination, system, &own)?,
            Placement::Delta => delta::check(&destination, system, &own)?,
        }
        let view = self.archive_view(&cluster).await?;
        let snapshots = self.snapshots(&cluster).await?;
        let chosen = choose(&repository, &view, &snapshots, &request, pinned).await?;
        let Chosen { snapshot, legs, stop, events, reachable } = chosen;
        let end = stop.end(snapshot.stop_lsn);
        refuse_minimal(&view, &legs, &snapshot, &events, end)?;
        let (last, next) = resolve::around(&events, end);
        let timeline = timeline_at(&legs, end);
        let predicted = ReachedPoint {
            lsn: end,
            xid: last.as_ref().map(|(_, t)| t.xid.to_string()),
            commit_time: last.as_ref().map(|(_, t)| t.time.to_chrono()),
            timeline: timeline.get(),
        };
        let read_to = stop.read_to(snapshot.stop_lsn);
        let wal = wal_files(&view, &legs, snapshot.start_lsn, read_to)?;
        let binaries =
            binaries::for_major(&self.server_binaries().await, snapshot.server_version.major());
        let host_findings = {
            let source = snapshot.source.clone();
            let version = snapshot.server_version;
            let binaries = binaries.clone();
            blocking(move || Ok(host::check(&source, version, binaries.as_ref()))).await?
        };
        host::refuse(&host_findings, request.accept_host_differences)?;
        let tablespaces = request
            .tablespaces
            .iter()
            .map(|(oid, directory)| Ok((*oid, absolute(directory)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let ours = purpose == Purpose::Resume;
        tablespace::check(&tablespaces, &destination, &repository, &snapshot, ours).await?;
        let request = RestoreRequest { tablespaces, ..request };
        let patches =
            tablespace::patches(&repository, &view, &legs, &snapshot, read_to, binaries.as_ref())
                .await?;
        let segment = cluster.segment_size.bytes();
        // The fetched files, WAL that waits for replay, and what replay and promotion write.
        let standing = if request.placement == Placement::Delta || purpose == Purpose::Resume {
            let destination = destination.clone();
            blocking(move || Ok(delta::bytes_in(&destination))).await?
        } else {
            0
        };
        let bytes_needed = snapshot.bytes_logical.saturating_sub(standing)
            + segment * (wal.len().min(16) as u64 + 8)
            + (64 << 20);
        let bytes_free = free_space(&destination);
        if let Some(free) = bytes_free
            && free < bytes_needed
        {
            return Err(EngineError::Refused {
                code: "too_little_disk",
                message: format!(
                    "the restore needs {} MiB and {} has {} MiB free",
                    bytes_needed >> 20,
                    destination.display(),
                    free >> 20
                ),
                hint: "Choose a destination with more space. Nothing was written.".to_owned(),
                details: json!({ "bytes_needed": bytes_needed, "bytes_free": free }),
            });
        }
        let proof =
            snapshots.iter().find(|(s, _)| s.id == snapshot.id).and_then(|(_, p)| p.clone());
        let loss = loss(&events, end, &view, &legs, reachable, &request.target);
        let last_noted_transaction = resolve::last_noted(&stop, &events, snapshot.start_lsn, end);
        let hash =
            plan_hash(&cluster, &snapshot, &request, &destination, &stop, &wal, binaries.as_ref());
        let wal_bytes = end.distance_from(snapshot.start_lsn);
        let plan = RestorePlan {
            hash,
            cluster: cluster.name.clone(),
            created_at: Utc::now(),
            target: request.target.to_string(),
            exclusive: request.exclusive,
            timeline: legs.last().map_or(1, |l| l.timeline.get()),
            snapshot: SnapshotSummary::of(&snapshot, proof.as_ref(), &[]),
            predicted,
            stops_before: next.as_ref().map(Commit::of),
            loss,
            destination: destination.display().to_string(),
            bytes_fetch: snapshot.bytes_logical,
            bytes_wal: wal_bytes,
            wal_segments: wal.len() as u64,
            bytes_needed,
            bytes_free,
            server: binaries,
            host_findings,
            steps: steps(&snapshot, wal.len(), wal_bytes, &request),
            command: command(&request, &destination),
            estimate_seconds: if purpose == Purpose::Plan {
                self.estimate(&snapshot, wal_bytes).await
            } else {
                None
            },
        };
        Ok(Prepared {
            plan,
            request: RestoreRequest { destination, ..request },
            cluster,
            repository,
            snapshot,
            view: Arc::new(view),
            legs,
            stop,
            wal,
            last_noted_transaction,
            patches,
        })
    }
}

fn plan_hash(
    cluster: &Cluster,
    snapshot: &Snapshot,
    request: &RestoreRequest,
    destination: &Path,
    stop: &Stop,
    wal: &[WalFileName],
    binaries: Option<&ServerBinaries>,
) -> String {
    let names: Vec<_> = wal.iter().map(|f| f.render(cluster.segment_size)).collect();
    let inputs = json!([
        cluster.id,
        cluster.system_identifier,
        snapshot.id,
        snapshot.file_table.blake3,
        request.target.to_string(),
        request.exclusive,
        request.accept_host_differences,
        destination,
        request.placement,
        request.tablespaces,
        stop,
        names,
        binaries.map(|b| (&b.version, &b.bin_directory)),
    ]);
    blake3::hash(inputs.to_string().as_bytes()).to_hex().to_string()
}
