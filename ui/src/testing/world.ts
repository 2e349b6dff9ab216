import type {
  ClusterOverview,
  ClusterSummary,
  Commit,
  JobSummary,
  Points,
  RestorePlan,
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
    retained_by: ["daily"],
    reason: null,
    page_findings: 0,
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
    snapshots: 9,
    bytes_stored: 71_403_212_800,
    problem: null,
    sentence: "Recoverable to 2026-05-04 14:31:58 UTC (23 s ago) · never proven by a restore",
    ...more,
  };
}

const proof = {
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
    last_proof: proof,
    sentence: "Recoverable to 2026-05-04 14:31:58 UTC (23 s ago) · proven by a restore to this point",
  }),
  overviewOf(cluster("orders-eu"), {
    state: "verified",
    gaps: 1,
    last_proof: { ...proof, at: before(86_400 * 2) },
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
  job("job-backup-done"),
  job("job-verify-done", { kind: "verify", title: "Verify s3://acme-backups/postgres", cluster: null }),
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

/** Commits of three and a half days with a daily rhythm; the same ones each time. */
export function makeCommits(): Commit[] {
  let state = 42;
  const random = () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
  const commits: Commit[] = [];
  const end = Date.parse(NOW) - 23_000;
  let time = end - 3.5 * 86_400_000;
  let lsn = 0x5a00_0100;
  let xid = 78_000;
  while (time < end) {
    const hour = new Date(time).getUTCHours();
    const busy = hour >= 7 && hour < 19 ? 1 : 0.18;
    const date = new Date(time).toISOString().slice(0, 23);
    const at = `${date}${String(Math.floor(random() * 1000)).padStart(3, "0")}Z`;
    const point = commits.length === 900 || commits.length === 2600;
    commits.push({
      lsn: `0/${lsn.toString(16).toUpperCase()}`,
      end_lsn: `0/${(lsn + 0x30).toString(16).toUpperCase()}`,
      xid: point ? "0" : String(xid),
      time: at,
      kind: point ? "restore_point" : random() < 0.04 ? "abort" : "commit",
      name: point ? (commits.length === 900 ? "before-deploy-418" : "before-migration-77") : null,
      timeline: 1,
    });
    xid += point ? 0 : 1;
    lsn += 0x60 + Math.floor(random() * 0x8000) * 8;
    time += (20_000 + random() * 60_000) / busy;
  }
  return commits;
}

export const COMMITS = makeCommits();

function at(index: number): Commit {
  const found = COMMITS.at(index);
  if (!found) throw new Error(`no commit ${index}`);
  return found;
}

/** Where the WAL of the fixture has a hole: no commit is stored between these two. */
const GAP_AFTER = 1400;
const GAP_BEFORE = 1530;

export function makePoints(name: string): Points {
  const holed = name === "billing" || name === "orders-eu";
  const gap = {
    from_lsn: at(GAP_AFTER).end_lsn,
    to_lsn: at(GAP_BEFORE).lsn,
    cause: "the slot's WAL was removed by the server",
    timeline: 1,
    detected_at: at(GAP_BEFORE).time,
  };
  return {
    cluster: name,
    windows: !holed
      ? [
          {
            timeline: 1,
            from: at(0).time,
            to: at(-1).time,
            from_lsn: at(0).lsn,
            to_lsn: at(-1).end_lsn,
            gaps: [],
          },
        ]
      : [
          {
            timeline: 1,
            from: at(0).time,
            to: at(GAP_AFTER).time,
            from_lsn: at(0).lsn,
            to_lsn: gap.from_lsn,
            gaps: [gap],
          },
          {
            timeline: 1,
            from: at(GAP_BEFORE).time,
            to: at(-1).time,
            from_lsn: gap.to_lsn,
            to_lsn: at(-1).end_lsn,
            gaps: [gap],
          },
        ],
    snapshots: [
      snapshot("snap-1", 86_400 * 3.4, { state: "verified" }),
      snapshot("snap-2", 86_400 * 2.4, { state: "degraded", page_findings: 2 }),
      snapshot("snap-3", 86_400 * 1.4, { state: "proven", proof }),
      snapshot("snap-4", 86_400 * 0.8, { state: "broken" }),
      snapshot("snap-5", 86_400 * 0.4),
      snapshot("snap-6", 3600 * 2, { kind: "incremental", state: "unknown" }),
    ],
    restore_points: COMMITS.filter((each) => each.kind === "restore_point").map((each) => ({
      name: each.name ?? "",
      time: each.time,
      lsn: each.lsn,
      timeline: 1,
    })),
  };
}

export function isStored(index: number): boolean {
  return index <= GAP_AFTER || index >= GAP_BEFORE;
}

export function makePlan(target: string, exclusive: boolean, to: string): RestorePlan {
  const held = at(-40);
  const left = at(-39);
  return {
    hash: "b3:9f2c4e0d6a51b7f8c3e1d09a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c",
    cluster: "orders-eu",
    created_at: NOW,
    target,
    exclusive,
    timeline: 1,
    snapshot: snapshot("snap-5", 86_400 * 0.4),
    predicted: { lsn: held.lsn, xid: held.xid, commit_time: held.time, timeline: 1 },
    stops_before: left,
    loss: {
      transactions: 38,
      aborted: 1,
      wal_bytes: 4_411_392,
      from: left.time,
      to: at(-1).time,
      first: left,
      last: at(-1),
      earlier_but_lost: [],
    },
    destination: to,
    bytes_fetch: 21_474_836_480,
    bytes_wal: 3_758_096_384,
    wal_segments: 224,
    bytes_needed: 56_371_445_760,
    bytes_free: 412_316_860_416,
    server: { major: 17, version: "17.11", bin_directory: "/usr/lib/postgresql/17/bin" },
    host_findings: [
      {
        severity: "warning",
        code: "collation_version",
        message: "The source uses ICU 72.1, this machine 73.2: indexes on text may order differently.",
        repair: "REINDEX DATABASE orders;\nALTER DATABASE orders REFRESH COLLATION VERSION;",
      },
      { severity: "ok", code: "architecture", message: "Same architecture: x86_64", repair: null },
    ],
    steps: [
      {
        phase: "fetching",
        title: "Fetch the snapshot",
        detail: "20.0 GiB from s3://acme-backups/postgres, 8 at a time",
      },
      {
        phase: "replaying",
        title: "Replay WAL",
        detail: "224 segments, on a private server that listens on loopback only",
      },
      {
        phase: "proving",
        title: "Check what was reached",
        detail: "The last replayed commit is compared with the archive's index",
      },
    ],
    command: `holdfast restore run orders-eu --target ${target}${exclusive ? " --exclusive" : ""} \\\n  --to ${to} --start --plan-hash b3:9f2c4e0d6a51`,
    estimate_seconds: { low: 540, high: 810 },
  };
}
