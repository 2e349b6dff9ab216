//! Requests, and the responses that are not the engine's own types.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use holdfast_engine::RepositorySummary;
use holdfast_engine::backup::IncrementalMode;
use holdfast_engine::cluster::ClusterSummary;
use holdfast_engine::demo::DemoStatus;
use holdfast_engine::jobs::JobSummary;
use holdfast_engine::replication::{ReplicaState, Score};
use holdfast_engine::rescue::MergeMode;
use holdfast_engine::restore::{AtTarget, Placement, SetAside};
use holdfast_engine::retention::Policy;
use holdfast_engine::secrets::SecretStoreStatus;
use holdfast_engine::server::binaries::ServerBinaries;
use holdfast_engine::timeline::TimeSpan;
use holdfast_engine::verify::Depth;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A request without fields.
#[derive(Debug, Clone, Default, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The workspace at a glance.
#[derive(Debug, Clone, Serialize, TS)]
pub struct WorkspaceStatus {
    /// Holdfast's version.
    pub version: String,
    /// The home directory.
    pub home: String,
    /// Where secrets are kept.
    pub secret_store: SecretStoreStatus,
    /// Known repositories.
    pub repositories: Vec<RepositorySummary>,
    /// Known clusters.
    pub clusters: Vec<ClusterSummary>,
    /// Jobs that run now.
    pub running_jobs: Vec<JobSummary>,
    /// PostgreSQL servers that can be started here.
    pub server_binaries: Vec<ServerBinaries>,
    /// The demo workspace, when there is one.
    pub demo: Option<DemoStatus>,
}

/// Creates a repository. The recovery key goes to a file and never to the page.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RepositoryCreate {
    /// A folder, or `file://`, `s3://`, `gs://`, `az://`.
    pub url: String,
    /// Adds a passphrase slot.
    pub passphrase: Option<String>,
    /// Keeps a key in the OS keychain.
    pub keychain: bool,
    /// Writes a recovery key to this new file.
    pub recovery_key_file: Option<String>,
}

/// Attaches an existing repository.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RepositoryAttach {
    /// Where it is.
    pub url: String,
    /// Its passphrase.
    pub passphrase: Option<String>,
    /// Or its recovery key.
    pub recovery_key: Option<String>,
    /// Keeps a key in the OS keychain for the next time.
    pub keychain: bool,
}

/// Names a repository.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RepositoryName {
    /// Id or URL; none when there is only one.
    pub repository: Option<String>,
}

/// What is to open a slot.
#[derive(Clone, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NewSlotKey {
    /// This passphrase.
    Passphrase {
        /// The passphrase.
        passphrase: String,
    },
    /// A fresh key in the OS keychain.
    Keychain {},
    /// A fresh recovery key.
    RecoveryKey {
        /// The new file that it is written to.
        file: String,
    },
    /// The private half of a public key.
    PublicKey {
        /// The text that `key_pair_generate` has made.
        text: String,
    },
}

impl std::fmt::Debug for NewSlotKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewSlotKey(…)")
    }
}

/// Adds a way in.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct KeysAdd {
    /// Id or URL of the repository; none when there is only one.
    pub repository: Option<String>,
    /// What is to open it.
    pub key: NewSlotKey,
    /// What it is called; none for a name by its kind.
    pub label: Option<String>,
}

/// Removes a way in.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct KeysRemove {
    /// Id or URL of the repository; none when there is only one.
    pub repository: Option<String>,
    /// The slot's id.
    pub slot: String,
    /// Although no passphrase or recovery key would be left.
    pub force: bool,
}

/// Replaces the secret of a way in.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct KeysRotate {
    /// Id or URL of the repository; none when there is only one.
    pub repository: Option<String>,
    /// The slot's id.
    pub slot: String,
    /// What is to open it, of the same kind.
    pub key: NewSlotKey,
}

/// Makes this person's key pair.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct KeyPairGenerate {
    /// The new file for the public key.
    pub public_key_file: String,
    /// The new file for the private key; none for the OS keychain.
    pub private_key_file: Option<String>,
}

/// Writes a recovery kit.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RecoveryKitRequest {
    /// Id or URL of the repository; none when there is only one.
    pub repository: Option<String>,
    /// The new file: plain text when its name ends in `.txt`, else HTML.
    pub file: String,
}

/// Looks at a server.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ClusterCheckRequest {
    /// A connection string without a password.
    pub dsn: String,
    /// The password, when one is needed; it is not kept.
    pub password: Option<String>,
}

/// Adds a cluster.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ClusterAdd {
    /// Its name.
    pub name: String,
    /// A connection string without a password.
    pub dsn: String,
    /// The password; it goes to the OS keychain.
    pub password: Option<String>,
    /// Id or URL of the repository; none when there is only one.
    pub repository: Option<String>,
}

/// Names a cluster.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ClusterName {
    /// The cluster.
    pub cluster: String,
}

/// Removes a cluster.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ClusterRemove {
    /// The cluster.
    pub name: String,
}

/// What a cluster can be restored to, between two times.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct PointsRequest {
    /// The cluster.
    pub cluster: String,
    /// Not before.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// Not after.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
}

/// What a drawing of a cluster's history needs.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct TimelineRequest {
    /// The cluster.
    pub cluster: String,
    /// Between which times; none for all of it.
    pub shown: Option<TimeSpan>,
    /// In how many columns, at most 400: snapshots and restore points that fall into one are a group.
    pub groups: u32,
    /// Into how many buckets commits are counted, at most 2000.
    pub buckets: u32,
    /// Commits along the way to this timeline; none for the newest.
    pub timeline: Option<u32>,
}

/// What happened to tables, out of the archived WAL. At least one thing to look for must be said.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct FindRequest {
    /// The cluster.
    pub cluster: String,
    /// Only this table: `name`, `schema.name` or `database.schema.name`, as it was called then.
    pub table: Option<String>,
    /// Only this transaction.
    pub xid: Option<String>,
    /// Dropped tables and databases.
    pub drops: bool,
    /// Truncated tables.
    pub truncates: bool,
    /// Transactions that deleted many rows of a table.
    pub mass_deletes: bool,
    /// Only what ended at this time or later.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// Only what ended at this time or earlier.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
}

/// Commits around a place.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct CommitsRequest {
    /// The cluster.
    pub cluster: String,
    /// Around this time.
    #[ts(type = "string | null")]
    pub around: Option<DateTime<Utc>>,
    /// Around this LSN.
    pub around_lsn: Option<String>,
    /// Around the end of this transaction.
    pub around_xid: Option<String>,
    /// How many, at most 1000.
    pub limit: u32,
    /// Along the way to this timeline; none for the newest.
    pub timeline: Option<u32>,
}

/// Commits per span of time.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct DensityRequest {
    /// The cluster.
    pub cluster: String,
    /// From.
    #[ts(type = "string")]
    pub from: DateTime<Utc>,
    /// To.
    #[ts(type = "string")]
    pub to: DateTime<Utc>,
    /// Into how many buckets, at most 2000.
    pub buckets: u32,
    /// Along the way to this timeline; none for the newest.
    pub timeline: Option<u32>,
}

/// What destroyed rows.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct MarkersRequest {
    /// The cluster.
    pub cluster: String,
    /// Committed at this time or later.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// Committed before this time.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
    /// How many transactions are named, at most 2000; of more the gravest.
    pub limit: u32,
    /// Into how many spans of time all are counted, at most 2000; 0 for none.
    pub buckets: u32,
    /// Read WAL that was archived without markers, up to 256 segments.
    pub rebuild: bool,
}

/// Starts a backup.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct BackupStart {
    /// The cluster.
    pub cluster: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether to read only what changed; a full backup unless said.
    #[serde(default)]
    #[ts(as = "Option<IncrementalMode>", optional)]
    pub incremental: IncrementalMode,
}

/// Asks what is kept of a cluster.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RetentionPlanRequest {
    /// The cluster.
    pub cluster: String,
    /// For a time to come instead of now.
    #[ts(type = "string | null")]
    pub at: Option<DateTime<Utc>>,
    /// By another policy than the cluster's.
    pub policy: Option<Policy>,
    /// So many snapshots and stretches of WAL are listed at most.
    pub limit: usize,
}

/// Sets a cluster's policy.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct PolicySet {
    /// The cluster.
    pub cluster: String,
    /// What is to be kept from now on.
    pub policy: Policy,
}

/// Takes marks for removal back.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RetentionUndelete {
    /// The cluster.
    pub cluster: String,
    /// One mark; null for all of the cluster.
    pub mark: Option<String>,
}

/// Places a hold: on one snapshot, or on everything between two times.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct HoldsAdd {
    /// The cluster.
    pub cluster: String,
    /// The snapshot; null for a hold on a time.
    pub snapshot: Option<String>,
    /// The first moment that is held; null for a hold on a snapshot.
    #[ts(type = "string | null")]
    pub from: Option<DateTime<Utc>>,
    /// The last moment that is held.
    #[ts(type = "string | null")]
    pub to: Option<DateTime<Utc>>,
    /// Why, in somebody's words.
    pub reason: String,
}

/// Lifts a hold.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct HoldsRemove {
    /// The cluster.
    pub cluster: String,
    /// The hold's id.
    pub hold: String,
}

/// Where the copies of a cluster's repository are.
#[derive(Debug, Clone, Serialize, TS)]
pub struct Replicas {
    /// Each replica, and how far it is behind.
    pub replicas: Vec<ReplicaState>,
    /// What would have to be lost for everything to be lost.
    pub score: Score,
}

/// Brings replicas up to date.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ReplicateStart {
    /// Whose repository.
    pub cluster: String,
    /// Where to; null for every known place. One that is not known becomes known.
    pub to: Option<String>,
    /// Bytes a second that may be sent; null for no limit.
    #[ts(type = "number | null")]
    pub bytes_per_second: Option<NonZeroU64>,
}

/// Forgets where a replica is; what is there stays.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ReplicasForget {
    /// Whose repository.
    pub cluster: String,
    /// The replica.
    pub url: String,
}

/// Makes a bundle.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct BundleStart {
    /// Of which cluster.
    pub cluster: String,
    /// The snapshot; null for the newest that can be restored.
    pub snapshot: Option<String>,
    /// The time that can be restored to at the latest; null for all WAL that there is.
    #[ts(type = "string | null")]
    pub through: Option<DateTime<Utc>>,
    /// The whole path, which does not exist: a tar file when it ends in `.tar`, else a folder.
    pub to: String,
}

/// Starts a verification.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct VerifyStart {
    /// The cluster whose repository is read and whose snapshots are judged; none when there is only one
    /// repository.
    pub cluster: Option<String>,
    /// How deep; every byte unless said otherwise.
    #[serde(default)]
    #[ts(optional)]
    pub level: Option<Depth>,
    /// One part of packs, WAL and files, such as `1/7`; all of them unless said otherwise.
    #[serde(default)]
    #[ts(optional)]
    pub sample: Option<String>,
    /// One snapshot and what it needs.
    #[serde(default)]
    #[ts(optional)]
    pub snapshot: Option<String>,
}

/// Starts a verification of what lies at a path and is known to nobody.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct VerifyOfflineStart {
    /// A bundle, or a repository in a folder.
    pub path: String,
    /// Its passphrase.
    pub passphrase: Option<String>,
    /// Or its recovery key.
    pub recovery_key: Option<String>,
    /// How deep.
    pub level: Depth,
}

/// A path for a new restore.
#[derive(Debug, Clone, Serialize, TS)]
pub struct Destination {
    /// It does not exist yet.
    pub path: String,
}

/// A point in time of a cluster, and from which snapshot it is reached. It is part of other requests;
/// these refuse unknown fields.
#[derive(Debug, Clone, Deserialize, TS)]
pub struct Point {
    /// The cluster.
    pub cluster: String,
    /// `latest`, `immediate`, `time:T`, `xid:N`, `lsn:X/Y`, `name:TEXT`.
    pub target: String,
    /// Whether the target itself is left out.
    pub exclusive: bool,
    /// `latest`, `current` or a number; none for `latest`.
    pub timeline: Option<String>,
    /// A given snapshot; none for the one that reaches the target soonest.
    pub snapshot: Option<String>,
    /// Go on although this host differs.
    pub accept_host_differences: bool,
}

/// Plans a restore.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RestorePlanRequest {
    /// To which point.
    #[serde(flatten)]
    pub point: Point,
    /// The new data directory.
    pub to: String,
    /// Into a new directory unless said otherwise.
    #[serde(default)]
    #[ts(optional)]
    pub placement: Option<Placement>,
    /// Directories of their own for tablespaces, by oid.
    #[serde(default)]
    #[ts(optional, type = "Record<string, string>")]
    pub tablespaces: Option<BTreeMap<u32, PathBuf>>,
}

/// Runs a plan that was shown.
// What is unknown here is unknown to the plan, which refuses it.
#[derive(Debug, Clone, Deserialize, TS)]
pub struct RestoreRunRequest {
    /// As it was planned.
    #[serde(flatten)]
    pub plan: RestorePlanRequest,
    /// The plan's hash.
    pub plan_hash: String,
    /// What to do at the target.
    pub at_target: AtTarget,
    /// Whether the private server stays up.
    pub start: bool,
}

/// Takes a restore that is paused at its target forward.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RestoreStep {
    /// The restore's job.
    pub job: String,
    /// How many commits.
    #[ts(type = "number")]
    pub commits: i64,
}

/// Looks into a restored copy.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RestoreInspect {
    /// The restore's job.
    pub job: String,
    /// The database; "postgres" when none is named.
    pub database: Option<String>,
    /// One query: SELECT, VALUES, TABLE or WITH.
    pub sql: String,
    /// How many rows at most; 1000 when not said.
    pub rows: Option<u32>,
}

/// Takes tables out of a point in time.
#[derive(Debug, Clone, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct RescueStart {
    /// From which point.
    #[serde(flatten)]
    pub point: Point,
    /// The tables, as SQL names them.
    pub tables: Vec<String>,
    /// Their database; none for that of the cluster's connection string.
    pub database: Option<String>,
    /// Only rows for which this holds.
    pub condition: Option<String>,
    /// Also what refers to them, and what all of it refers to.
    pub follow: bool,
    /// A new file, or a connection string of a live database.
    pub into: String,
    /// Where the private copy goes; none for a place of its own.
    pub copy: Option<String>,
    /// What becomes of rows that differ.
    pub mode: MergeMode,
    /// Keep the triggers of users from running.
    pub without_triggers: bool,
}

/// Names a job.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct JobRef {
    /// The job.
    pub job: String,
}

/// One job with its result.
#[derive(Debug, Clone, Serialize, TS)]
pub struct JobDetail {
    /// The job.
    pub job: JobSummary,
    /// The number of its last event.
    #[ts(type = "number")]
    pub last_seq: u64,
    /// What a restore in place has set aside, until it is purged.
    pub set_aside: Option<SetAside>,
    /// Its result, with the job's kind.
    #[ts(type = "JobResult | null")]
    pub result: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const POINT: &str = r#"{ "cluster": "c", "target": "latest", "exclusive": false, "accept_host_differences": false }"#;

    fn with(more: &Value) -> Value {
        let mut request: Value = serde_json::from_str(POINT).unwrap_or_default();
        for (name, value) in more.as_object().into_iter().flatten() {
            request[name] = value.clone();
        }
        request
    }

    fn is_read<T: serde::de::DeserializeOwned>(request: Value) -> bool {
        serde_json::from_value::<T>(request).is_ok()
    }

    /// serde does not promise that unknown fields are refused where a struct is part of another.
    #[test]
    fn requests_with_a_point_refuse_unknown_fields() {
        let plan = json!({ "to": "/new", "snapshot": "s", "tablespaces": { "16385": "/fast" } });
        let run = json!({ "to": "/new", "plan_hash": "h", "at_target": "pause", "start": true });
        let rescue = json!({ "tables": ["t"], "follow": false, "into": "rows.sql", "mode": "missing",
                             "without_triggers": false });
        assert!(is_read::<RestorePlanRequest>(with(&plan)));
        assert!(is_read::<RestoreRunRequest>(with(&run)));
        assert!(is_read::<RescueStart>(with(&rescue)));
        let unknown = |request: &Value| {
            let mut request = with(request);
            request["oops"] = json!(1);
            request
        };
        assert!(!is_read::<RestorePlanRequest>(unknown(&plan)));
        assert!(!is_read::<RestoreRunRequest>(unknown(&run)));
        assert!(!is_read::<RescueStart>(unknown(&rescue)));
        assert!(!is_read::<RestorePlanRequest>(run), "without a point there is no plan");
    }
}
