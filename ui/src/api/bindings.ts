// Generated from crates/api. Do not edit: `cargo xtask bindings` writes it, a test compares it.

/** An LSN as PostgreSQL prints it, `X/Y`. */ export type Lsn = string;
/** RFC 3339, UTC. */ export type Time = string;
export type ErrorObject = { code: string; message: string; hint: string | null; retryable: boolean; details: unknown };

export type SecretStoreStatus = { kind: "keychain" | "unavailable"; message: string };
export type ServerBinaries = { major: number; version: string; bin_directory: string };
export type RepositorySummary = { id: string; url: string; attached_at: Time; unlock: "keychain" | "passphrase" };
export type WorkspaceStatus = {
  version: string; home: string; secret_store: SecretStoreStatus; repositories: RepositorySummary[];
  clusters: ClusterSummary[]; running_jobs: JobSummary[]; server_binaries: ServerBinaries[]; demo: DemoStatus | null;
};
export type ClusterSummary = {
  name: string; dsn: string; repository: string; system_identifier: string; server_version: string;
  mode: "physical" | "physical_via_database"; created_at: Time; demo: boolean;
};
export type Finding = { severity: "ok" | "info" | "warning" | "error"; code: string; message: string; repair: string | null };
export type ClusterCheck = {
  reachable: boolean; mode: "physical" | "physical_via_database" | null; server_version: string | null; system_identifier: string | null;
  timeline: number | null; data_bytes: number | null; findings: Finding[];
};
export type RecoverabilityState = "proven" | "verified" | "stored" | "degraded" | "broken" | "unknown";
export type ClusterOverview = {
  cluster: ClusterSummary; state: RecoverabilityState;
  /** Last commit that is durable in the repository. */ recoverable_to: Time | null; recoverable_to_lsn: Lsn | null; recoverable_age_seconds: number | null;
  oldest_recoverable: Time | null; last_snapshot: SnapshotSummary | null; last_proof: Proof | null;
  gaps: number; archiving: boolean; archive_lag_bytes: number | null; snapshots: number; bytes_stored: number; problem: ErrorObject | null;
  /** The recoverability sentence's parts in plain words. */ sentence: string;
};
export type Proof = { at: Time; target: string; reached_lsn: Lsn; reached_time: Time | null; seconds: number; job: string };
export type SnapshotSummary = {
  id: string; kind: "full" | "incremental"; started_at: Time; finished_at: Time; start_lsn: Lsn; stop_lsn: Lsn; timeline: number;
  bytes_logical: number; bytes_added: number; state: RecoverabilityState; proof: Proof | null; retained_by: string[]; reason: string | null;
  page_findings: number;
};
export type Gap = { from_lsn: Lsn; to_lsn: Lsn; cause: string; detected_at: Time };
export type CoverageWindow = { timeline: number; from: Time | null; to: Time | null; from_lsn: Lsn; to_lsn: Lsn; gaps: Gap[] };
export type RestorePoint = { name: string; time: Time; lsn: Lsn; timeline: number };
export type Points = { cluster: string; windows: CoverageWindow[]; snapshots: SnapshotSummary[]; restore_points: RestorePoint[] };
/** One transaction end in the archived WAL. */
export type Commit = { lsn: Lsn; end_lsn: Lsn; xid: string; time: Time; kind: "commit" | "abort" | "restore_point"; name: string | null; timeline: number };
export type CommitPage = { commits: Commit[]; earlier: boolean; later: boolean };
/** Commits per bucket, for the density lane. */
export type Density = { from: Time; to: Time; bucket_seconds: number; counts: number[] };

export type Stop = { lsn: Lsn; xid: string | null; commit_time: Time | null; timeline: number };
export type Loss = { transactions: number; aborted: number; wal_bytes: number; from: Time | null; to: Time | null; first: Commit | null; last: Commit | null };
export type PlanStep = { phase: string; title: string; detail: string };
export type RestorePlan = {
  hash: string; cluster: string; created_at: Time; target: string; exclusive: boolean; timeline: number; snapshot: SnapshotSummary;
  /** The last transaction end the restored database will hold. */ predicted: Stop; stops_before: Commit | null; loss: Loss;
  destination: string; bytes_fetch: number; bytes_wal: number; wal_segments: number; bytes_needed: number; bytes_free: number | null;
  server: ServerBinaries | null; host_findings: Finding[]; steps: PlanStep[]; command: string;
  estimate_seconds: { low: number; high: number } | null;
};
export type AtTarget = "pause" | "promote" | "shutdown";
export type PhaseTime = { name: string; seconds: number; bytes: number | null };
export type RestoreResult = {
  job: string; plan_hash: string; snapshot: string; reached: Stop; stopped_before: Commit | null; phases: PhaseTime[];
  data_directory: string; port: number | null; dsn: string | null; verified: boolean; checks: Finding[]; at_target: AtTarget; running: boolean;
};
export type BackupResult = { job: string; snapshot: SnapshotSummary; phases: PhaseTime[]; files: number; warnings: string[]; page_findings: Finding[] };
export type ArchiveResult = { job: string; durable_lsn: Lsn; timeline: number; segments: number };
export type VerifyFinding = { severity: "info" | "warning" | "error"; kind: string; object: string; message: string };
export type VerifyResult = { ok: boolean; level: string; checked: { objects: number; bytes: number; pages: number; wal_segments: number }; findings: VerifyFinding[] };
export type DemoTable = { table: string; at_target: number; after_disaster: number; restored: number | null };
export type DemoStatus = { cluster: string; disaster: Commit; tables: DemoTable[]; suggested_target: string };
export type DemoResult = { job: string; verified: boolean; restore: RestoreResult | null; tables: DemoTable[]; seconds: Record<string, number> };

export type JobKind = "backup" | "archive" | "restore" | "verify" | "demo";
export type JobState = "running" | "succeeded" | "failed" | "cancelled" | "interrupted";
export type JobSummary = {
  id: string; kind: JobKind; cluster: string | null; title: string; state: JobState; phase: string | null; created_at: Time; finished_at: Time | null;
  error: ErrorObject | null;
};
export type JobDetail = { job: JobSummary; last_seq: number; result: JobResult | null };
export type JobResult =
  | ({ kind: "backup" } & BackupResult) | ({ kind: "archive" } & ArchiveResult) | ({ kind: "restore" } & RestoreResult)
  | ({ kind: "verify" } & VerifyResult) | ({ kind: "demo" } & DemoResult);
/** One line of a job's journal. Unknown values are null, never 0. */
export type JobEvent = {
  job: string; seq: number; at: Time; phase: string; kind: "phase_started" | "progress" | "log" | "warning" | "finished" | "failed" | "cancelled";
  done: number | null; total: number | null; unit: string | null; rate: number | null; replayed_to: Time | null; target: string | null; message: string | null;
};

/** Every command of the product: name, request, response. */
export interface Commands {
  workspace_status: { request: Record<string, never>; response: WorkspaceStatus };
  overview: { request: Record<string, never>; response: ClusterOverview[] };
  repository_create: { request: { url: string; passphrase: string | null; keychain: boolean; recovery_key_file: string | null }; response: RepositorySummary };
  repository_attach: { request: { url: string; passphrase: string | null; recovery_key: string | null; keychain: boolean }; response: RepositorySummary };
  cluster_check: { request: { dsn: string; password: string | null }; response: ClusterCheck };
  cluster_add: { request: { name: string; dsn: string; password: string | null; repository: string | null }; response: ClusterSummary };
  cluster_remove: { request: { name: string }; response: null };
  points: { request: { cluster: string; from: Time | null; to: Time | null }; response: Points };
  commits: { request: { cluster: string; around: Time | null; around_lsn: Lsn | null; limit: number }; response: CommitPage };
  density: { request: { cluster: string; from: Time; to: Time; buckets: number }; response: Density };
  backup_start: { request: { cluster: string; reason: string | null }; response: { job: string } };
  archive_start: { request: { cluster: string }; response: { job: string } };
  verify_start: { request: { cluster: string | null }; response: { job: string } };
  restore_destination: { request: { cluster: string }; response: { path: string } };
  restore_plan: { request: { cluster: string; target: string; exclusive: boolean; timeline: string | null; to: string; snapshot: string | null; accept_host_differences: boolean }; response: RestorePlan };
  restore_run: { request: { cluster: string; target: string; exclusive: boolean; timeline: string | null; to: string; snapshot: string | null; accept_host_differences: boolean; plan_hash: string; at_target: AtTarget; start: boolean }; response: { job: string } };
  restore_promote: { request: { job: string }; response: RestoreResult };
  restore_discard: { request: { job: string }; response: null };
  jobs_list: { request: Record<string, never>; response: JobSummary[] };
  job_show: { request: { job: string }; response: JobDetail };
  job_cancel: { request: { job: string }; response: null };
  demo_start: { request: Record<string, never>; response: { job: string } };
  demo_discard: { request: Record<string, never>; response: null };
}
