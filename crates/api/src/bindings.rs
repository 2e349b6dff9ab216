//! The TypeScript side of the list: the same names and shapes, from the types themselves.

use std::fmt::Write as _;

use holdfast_engine as engine;
use ts_rs::{Config, TS};

#[allow(clippy::wildcard_imports, reason = "every request is declared here")]
use crate::requests::*;

const HEAD: &str = "// Generated from crates/api by `cargo xtask bindings`; a test compares it. Do not edit.\n\n\
/** An LSN as PostgreSQL prints it, `X/Y`. */\nexport type Lsn = string;\n\
/** RFC 3339, UTC. */\nexport type Time = string;\n";

/// The whole file `ui/src/api/bindings.ts`.
pub fn typescript() -> String {
    let config = Config::default();
    let mut text = HEAD.to_owned();
    macro_rules! declare {
        ($($type:ty),+ $(,)?) => { $( let _ = writeln!(text, "export {}", <$type as TS>::decl(&config)); )+ };
    }
    declare!(
        engine::ErrorObject,
        engine::secrets::SecretStoreKind,
        engine::secrets::SecretStoreStatus,
        engine::server::binaries::ServerBinaries,
        engine::UnlockSource,
        engine::RepositorySummary,
        engine::cluster::AccessMode,
        engine::cluster::ClusterSummary,
        engine::Severity,
        engine::Finding,
        engine::cluster::ClusterCheck,
        engine::points::PointState,
        engine::snapshot::Proof,
        engine::snapshot::SnapshotKind,
        engine::snapshot::ManifestBy,
        engine::points::SnapshotSummary,
        engine::archive::GapCause,
        engine::archive::Gap,
        engine::archive::SystemChange,
        engine::archive::NeedsSnapshotReason,
        engine::archive::NeedsSnapshot,
        engine::archive::SlotState,
        engine::archive::SlotCost,
        engine::archive::Durability,
        engine::points::CoverageWindow,
        engine::points::RestorePoint,
        engine::points::Points,
        engine::points::CommitKind,
        engine::points::Commit,
        engine::points::CommitPage,
        engine::points::Density,
        engine::archive::MarkerKind,
        engine::find::Marker,
        engine::find::MarkerCounts,
        engine::find::UnknownStretch,
        engine::find::Markers,
        engine::timeline::TimeSpan,
        engine::timeline::Branch,
        engine::timeline::SnapshotGroup,
        engine::timeline::RestorePointGroup,
        engine::timeline::Timeline,
        engine::overview::ClusterOverview,
        engine::restore::ReachedPoint,
        engine::find::FoundKind,
        engine::find::FoundOutcome,
        engine::find::TableIdentity,
        engine::find::EndedTransaction,
        engine::find::RowCounts,
        engine::find::FoundEvent,
        engine::find::Found,
        engine::find::RelationLoss,
        engine::find::LossChanges,
        engine::restore::Loss,
        engine::restore::PlanStep,
        engine::restore::Estimate,
        engine::restore::RestorePlan,
        engine::restore::AtTarget,
        engine::PhaseTime,
        engine::restore::SourceConfiguration,
        engine::restore::RestoreResult,
        engine::restore::Placement,
        engine::restore::Inspection,
        engine::restore::Swapped,
        engine::restore::SetAside,
        engine::restore::Purged,
        engine::rescue::MergeMode,
        engine::rescue::Conflict,
        engine::rescue::MergedTable,
        engine::rescue::RescuedTable,
        engine::rescue::RescueResult,
        engine::backup::IncrementalMode,
        engine::backup::Source,
        engine::backup::Transfer,
        engine::backup::BackupResult,
        engine::archive::ArchiveResult,
        engine::bundle::BundleResult,
        engine::rekey::RekeyResult,
        engine::replication::Lag,
        engine::replication::HeldBack,
        engine::replication::ReplicaResult,
        engine::replication::ReplicationResult,
        engine::replication::ReplicaState,
        engine::replication::Score,
        Replicas,
        engine::retention::Keep,
        engine::retention::Override,
        engine::retention::Policy,
        engine::retention::PolicyVersion,
        engine::retention::RetentionSize,
        engine::retention::SnapshotFate,
        engine::retention::WalFate,
        engine::retention::RetentionPlan,
        engine::retention::FateTotals,
        engine::retention::RetentionOutline,
        engine::retention::Hold,
        engine::retention::Queued,
        engine::retention::Undeleted,
        engine::retention::RemovedTotals,
        engine::retention::Waiting,
        engine::retention::Locked,
        engine::retention::KeptByStore,
        engine::retention::LocksRenewed,
        engine::retention::RetentionApplied,
        engine::verify::FindingSeverity,
        engine::verify::VerifyFinding,
        engine::verify::Depth,
        engine::verify::Checked,
        engine::verify::Skipped,
        engine::verify::SnapshotCheck,
        engine::verify::VerifiedSnapshot,
        engine::verify::VerifyResult,
        engine::demo::DemoTable,
        engine::demo::DemoStatus,
        engine::demo::DemoResult,
        engine::jobs::JobId,
        engine::jobs::JobKind,
        engine::jobs::JobState,
        engine::jobs::JobSummary,
        engine::jobs::JobEventKind,
        engine::jobs::JobEvent,
        engine::keys::ListedSlot,
        engine::repository::ObjectCount,
        engine::repository::RepositoryStatus,
        engine::keys::RemovedKey,
        engine::keys::RotatedKey,
        engine::keys::MadeKeyPair,
        engine::recovery_kit::RecoveryKit,
        NewSlotKey,
        WorkspaceStatus,
        Destination,
        JobRef,
        JobDetail,
    );
    text.push_str(
        "export type JobResult =\n  | ({ kind: \"backup\" } & BackupResult)\n  | ({ kind: \"archive\" } & ArchiveResult)\n  \
         | ({ kind: \"restore\" } & RestoreResult)\n  | ({ kind: \"rescue\" } & RescueResult)\n  | ({ kind: \"verify\" } & VerifyResult)\n  \
         | ({ kind: \"bundle\" } & BundleResult)\n  | ({ kind: \"replication\" } & ReplicationResult)\n  \
         | ({ kind: \"rekey\" } & RekeyResult)\n  | ({ kind: \"retention\" } & RetentionApplied)\n  \
         | ({ kind: \"demo\" } & DemoResult);\n",
    );
    text.push_str("\n/** Every command of the product: name, request, response. */\nexport interface Commands {\n");
    macro_rules! command {
        ($($name:literal: $request:ty => $response:literal),+ $(,)?) => {
            $( let _ = writeln!(
                text,
                "  {}: {{ request: {}; response: {} }};",
                $name,
                <$request as TS>::inline(&config).replace("Record<symbol, never>", "Record<string, never>"),
                $response
            ); )+
        };
    }
    command!(
        "workspace_status": Nothing => "WorkspaceStatus",
        "overview": Nothing => "ClusterOverview[]",
        "repository_create": RepositoryCreate => "RepositorySummary",
        "repository_attach": RepositoryAttach => "RepositorySummary",
        "repository_status": RepositoryName => "RepositoryStatus",
        "keys_list": RepositoryName => "KeySlot[]",
        "keys_add": KeysAdd => "KeySlot",
        "keys_remove": KeysRemove => "RemovedKey",
        "keys_rotate": KeysRotate => "RotatedKey",
        "key_pair_generate": KeyPairGenerate => "MadeKeyPair",
        "recovery_kit": RecoveryKitRequest => "RecoveryKit",
        "cluster_check": ClusterCheckRequest => "ClusterCheck",
        "cluster_add": ClusterAdd => "ClusterSummary",
        "cluster_remove": ClusterRemove => "null",
        "points": PointsRequest => "Points",
        "timeline": TimelineRequest => "Timeline",
        "commits": CommitsRequest => "CommitPage",
        "density": DensityRequest => "Density",
        "markers": MarkersRequest => "Markers",
        "find": FindRequest => "Found",
        "backup_start": BackupStart => "JobRef",
        "archive_start": ClusterName => "JobRef",
        "retention_plan": RetentionPlanRequest => "RetentionOutline",
        "policy_set": PolicySet => "PolicyVersion",
        "retention_queue": ClusterName => "Queued[]",
        "retention_start": ClusterName => "JobRef",
        "retention_undelete": RetentionUndelete => "Undeleted",
        "holds_list": ClusterName => "Hold[]",
        "holds_add": HoldsAdd => "Hold",
        "holds_remove": HoldsRemove => "Hold",
        "replicas_list": ClusterName => "Replicas",
        "replicas_forget": ReplicasForget => "null",
        "replicate_start": ReplicateStart => "JobRef",
        "bundle_start": BundleStart => "JobRef",
        "verify_start": VerifyStart => "JobRef",
        "verify_offline_start": VerifyOfflineStart => "JobRef",
        "restore_destination": ClusterName => "Destination",
        "restore_plan": RestorePlanRequest => "RestorePlan",
        "restore_loss": RestorePlanRequest => "LossChanges",
        "restore_run": RestoreRunRequest => "JobRef",
        "restore_step": RestoreStep => "RestoreResult",
        "restore_inspect": RestoreInspect => "Inspection",
        "restore_pause": JobRef => "null",
        "restore_resume": JobRef => "null",
        "restore_promote": JobRef => "RestoreResult",
        "restore_discard": JobRef => "null",
        "restore_swap_back": JobRef => "Swapped",
        "restore_purge": JobRef => "Purged",
        "rescue_start": RescueStart => "JobRef",
        "jobs_list": Nothing => "JobSummary[]",
        "job_show": JobRef => "JobDetail",
        "job_cancel": JobRef => "null",
        "demo_start": Nothing => "JobRef",
        "demo_discard": Nothing => "null",
    );
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bindings_are_current() {
        // Where the tests run, not where they were compiled: another checkout may share what was built.
        let own = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap());
        let path = own.join("../../ui/src/api/bindings.ts");
        let generated = typescript();
        if std::env::var_os("HOLDFAST_WRITE_BINDINGS").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(committed, generated, "run `cargo xtask bindings`");
    }

    #[test]
    fn every_command_is_declared_once() {
        let text = typescript();
        let interface = text.split("interface Commands").nth(1).unwrap();
        for name in crate::NAMES {
            assert_eq!(interface.matches(&format!("\n  {name}: ")).count(), 1, "{name}");
        }
        assert_eq!(interface.matches("request: ").count(), crate::NAMES.len());
    }
}
