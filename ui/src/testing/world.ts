import type {
  ClusterOverview,
  ClusterSummary,
  JobDetail,
  JobEvent,
  JobSummary,
  SnapshotSummary,
  WorkspaceStatus,
} from "../api/bindings";

/** Data for tests only: a workspace with a cluster in every state, at one fixed moment. */

export const NOW = "2026-05-04T14:32:21.000Z";

export function before(seconds: number, micros = "412345"): string {
  const base = new Date(Date.parse(NOW) - seconds * 1000).toISOString().slice(0, 19);
  return `${base}.${micros}Z`;
}

export function cluster(name: string, more: Partial<ClusterSummary> = {}): ClusterSummary {
  return {
    name,
    dsn: `host=${name}.db.internal port=5432 user=holdfast dbname=postgres sslmode=verify-full`,
    repository: "s3://acme-backups/postgres",
    system_identifier: "7412345678901234567",
    server_version: "17.11",
    mode: "physical",
    created_at: before(86_400 * 40),
    demo: false,
    ...more,
  };
}

export function snapshot(
  id: string,
  ageSeconds: number,
  more: Partial<SnapshotSummary> = {},
): SnapshotSummary {
  return {
    id,
    kind: "full",
    started_at: before(ageSeconds + 900),
    finished_at: before(ageSeconds),
    start_lsn: "0/5A000028",
    stop_lsn: "0/5C0001F8",
    timeline: 1,
    bytes_logical: 52_613_349_376,
    bytes_added: 3_865_470_566,
    state: "stored",
    proof: null,
    check: null,
    retained_by: ["daily"],
    reason: null,
    page_findings: 0,
    manifest_by: "server",
    ...more,
  };
}

function overviewOf(summary: ClusterSummary, more: Partial<ClusterOverview>): ClusterOverview {
  return {
    cluster: summary,
    state: "stored",
    recoverable_to: before(23),
    recoverable_to_lsn: "0/9F3A1C40",
    recoverable_age_seconds: 23,
    oldest_recoverable: before(86_400 * 3),
    last_snapshot: snapshot("01J8-latest", 3600 * 5),
    last_proof: null,
    gaps: 0,
    archiving: true,
    archive_lag_bytes: 16_384,
    needs_snapshot: null,
    slot: null,
    snapshots: 9,
    bytes_stored: 71_403_212_800,
    problem: null,
    sentence: "Recoverable to 2026-05-04 14:31:58 UTC (23 s ago) · never proven by a restore",
    ...more,
  };
}

export const PROOF = {
  at: before(3600 * 2),
  target: "latest",
  reached_lsn: "0/9F3A1C40",
  reached_time: before(23),
  seconds: 734,
  job: "0196a0b0-0000-7000-8000-00000000d00d",
};

export const OVERVIEW: ClusterOverview[] = [
  overviewOf(cluster("ledger"), {
    state: "proven",
    last_proof: PROOF,
    sentence: "Recoverable to 2026-05-04 14:31:58 UTC (23 s ago) · proven by a restore to this point",
  }),
  overviewOf(cluster("orders-eu"), {
    state: "verified",
    gaps: 1,
    last_proof: { ...PROOF, at: before(86_400 * 2) },
    sentence: "Recoverable to 2026-05-04 14:31:58 UTC (23 s ago) · last proven 2 d ago",
  }),
  overviewOf(cluster("search", { mode: "physical_via_database", server_version: "15.19" }), {
    archiving: false,
    archive_lag_bytes: null,
    recoverable_to: before(86_400 * 0.4),
    sentence: "Recoverable to 2026-05-04 04:56:21 UTC (9 h ago) · never proven by a restore",
  }),
  overviewOf(cluster("weddings", { demo: true, dsn: "host=/run/holdfast/demo user=demo" }), {
    state: "degraded",
    snapshots: 1,
    sentence:
      "Recoverable with damaged pages to 2026-05-04 14:31:58 UTC (23 s ago) · never proven by a restore",
  }),
  overviewOf(cluster("billing"), {
    state: "broken",
    gaps: 1,
    recoverable_to: null,
    recoverable_to_lsn: null,
    recoverable_age_seconds: null,
    archiving: false,
    archive_lag_bytes: null,
    needs_snapshot: {
      reason: "no_whole_snapshot",
      message: "no backup has all the WAL that it needs itself",
      gap: null,
    },
    slot: {
      name: "holdfast_billing",
      wal_status: "lost",
      held_bytes: null,
      safe_bytes: null,
      invalidation_reason: "wal_removed",
      seen_at: before(600),
    },
    sentence: "Not recoverable: no backup has all the WAL it needs",
  }),
  overviewOf(cluster("archive-2019"), {
    state: "unknown",
    recoverable_to: null,
    recoverable_to_lsn: null,
    recoverable_age_seconds: null,
    oldest_recoverable: null,
    last_snapshot: null,
    archiving: false,
    archive_lag_bytes: null,
    gaps: 0,
    snapshots: 0,
    bytes_stored: 0,
    sentence: "Unknown: the repository could not be read",
    problem: {
      code: "unreachable",
      message: "the repository could not be used: s3://acme-cold did not answer within 30 s",
      hint: "Check the network and the endpoint. What is stored there is not affected.",
      retryable: true,
      details: null,
    },
  }),
];

export function job(id: string, more: Partial<JobSummary> = {}): JobSummary {
  return {
    id,
    kind: "backup",
    cluster: "orders-eu",
    title: "Back up orders-eu",
    state: "succeeded",
    phase: null,
    created_at: before(700),
    finished_at: before(120),
    error: null,
    paused: false,
    resumable: false,
    ...more,
  };
}

/** What is known of a job that has ended or runs. */
export function jobDetail(summary: JobSummary, more: Partial<JobDetail> = {}): JobDetail {
  return { job: summary, last_seq: 12, set_aside: null, result: null, ...more };
}

/** A line of a journal; what it does not say is null. */
export function jobEvent(seq: number, more: Partial<JobEvent> = {}): JobEvent {
  return {
    job: "job",
    seq,
    at: before(32 - seq * 4),
    phase: "",
    kind: "progress",
    done: null,
    total: null,
    unit: null,
    rate: null,
    replayed_to: null,
    replayed_lsn: null,
    target: null,
    target_lsn: null,
    message: null,
    ...more,
  };
}

export const JOBS: JobSummary[] = [
  job("job-restore-running", {
    kind: "restore",
    title: "Restore orders-eu to just before transaction 81244",
    state: "running",
    phase: "replaying",
    created_at: before(95),
    finished_at: null,
  }),
  job("job-backup-running", {
    state: "running",
    phase: "copying",
    finished_at: null,
    created_at: before(60),
  }),
  job("job-archive", {
    kind: "archive",
    title: "Archive ledger",
    cluster: "ledger",
    state: "running",
    phase: "streaming",
    created_at: before(86_400),
    finished_at: null,
  }),
  job("job-demo-running", {
    kind: "demo",
    title: "Demo workspace",
    cluster: null,
    state: "running",
    phase: "loading 2,143 active weddings",
    created_at: before(20),
    finished_at: null,
  }),
  job("job-restore-done", { kind: "restore", title: "Restore orders-eu to transaction 81243" }),
  job("job-restore-unverified", { kind: "restore", title: "Restore orders-eu to 14:00 UTC" }),
  job("job-restore-failed", {
    kind: "restore",
    title: "Restore orders-eu to latest",
    state: "failed",
    error: {
      code: "disk_full",
      message: "could not write /restore/orders-eu/base/5/16412: No space left on device",
      hint: "The disk that holds /restore is full. Free some space or choose another place; what was stored before stays usable.",
      retryable: false,
      details: { path: "/restore/orders-eu/base/5/16412" },
    },
  }),
  job("job-restore-paused", {
    kind: "restore",
    title: "Restore ledger to latest",
    cluster: "ledger",
    state: "running",
    phase: "fetching",
    finished_at: null,
    paused: true,
  }),
  job("job-restore-interrupted", {
    kind: "restore",
    title: "Restore billing to latest",
    cluster: "billing",
    state: "interrupted",
    phase: "fetching",
    finished_at: null,
    resumable: true,
  }),
  job("job-restore-in-place", { kind: "restore", title: "Restore orders-eu in place to latest" }),
  job("job-restore-swapped-back", { kind: "restore", title: "Restore orders-eu in place to 12:00 UTC" }),
  job("job-backup-done"),
  job("job-verify-done", { kind: "verify", title: "Verify s3://acme-backups/postgres", cluster: null }),
  job("job-retention-done", { kind: "retention", title: "Apply retention to orders-eu" }),
  job("job-replication-done", { kind: "replication", title: "Replicate orders-eu" }),
  job("job-rekey-done", {
    kind: "rekey",
    title: "Re-encrypt s3://acme-backups/postgres into s3://acme-backups-2/postgres",
    cluster: null,
  }),
  job("job-cancelled", { state: "cancelled", title: "Back up billing", cluster: "billing" }),
  job("job-interrupted", {
    state: "interrupted",
    kind: "archive",
    title: "Archive billing",
    cluster: "billing",
    finished_at: null,
  }),
  job("job-demo-done", { kind: "demo", title: "Demo workspace", cluster: "weddings" }),
];

export const WORKSPACE: WorkspaceStatus = {
  version: "0.1.0",
  home: "/home/operator/.local/share/holdfast",
  secret_store: { kind: "keychain", message: "Secrets are kept in the OS keychain" },
  repositories: [
    {
      id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1a11",
      url: "s3://acme-backups/postgres",
      attached_at: before(86_400 * 40),
      unlock: "keychain",
    },
    {
      id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1a12",
      url: "file:///mnt/vault/holdfast",
      attached_at: before(86_400 * 3),
      unlock: "passphrase",
    },
  ],
  clusters: OVERVIEW.map((entry) => entry.cluster),
  running_jobs: JOBS.filter((each) => each.state === "running"),
  server_binaries: [
    { major: 15, version: "15.19", bin_directory: "/usr/lib/postgresql/15/bin" },
    { major: 17, version: "17.11", bin_directory: "/usr/lib/postgresql/17/bin" },
  ],
  demo: null,
};
