import type {
  Commands,
  ErrorObject,
  JobDetail,
  JobEvent,
  JobResult,
  Points,
  SetAside,
} from "../api/bindings";
import type { Command, RequestOf, ResponseOf } from "../api/client";
import {
  COMMITS,
  FOUND,
  isStored,
  makeDensity,
  makeForkedPoints,
  makeMarkers,
  makeNoPoints,
  makePoints,
  makeTimeline,
} from "./archive";
import { LOSS_CHANGES, makePlan } from "./plan";
import { HOLDS, NEW_SLOT, NO_REPLICAS, REMOVING_MEANS, REPLICAS, SLOTS, statusOf } from "./repository";
import { LATER, NOTHING_KEPT, OUTLINE, QUEUE } from "./retention";
import { before, cluster, JOBS, job, jobDetail, jobEvent, NOW, OVERVIEW, snapshot, WORKSPACE } from "./world";

export type Scene = "busy" | "first-run" | "empty" | "failed" | "no-keychain";

/** A refusal as the engine gives it; thrown by the fake. What is not said is none. */
export class FakeRefusal extends Error {
  readonly object: ErrorObject;
  constructor(object: Pick<ErrorObject, "code" | "message"> & Partial<ErrorObject>) {
    super(object.message);
    this.object = { hint: null, retryable: false, details: null, ...object };
  }
}

type Answers = { [C in Command]: (request: RequestOf<C>) => ResponseOf<C> };

const DOWN: ErrorObject = {
  code: "catalog_failed",
  message: "the catalog could not be opened: database disk image is malformed",
  hint: "The catalog is a cache: move catalog.db out of the home directory and run `holdfast repo attach URL`.",
  retryable: false,
  details: null,
};

const PHASES = [
  { name: "fetching", seconds: 312.4, bytes: 21_474_836_480 },
  { name: "replaying", seconds: 187.2, bytes: null },
  { name: "proving", seconds: 9.1, bytes: null },
];

const NEW_DIRECTORY = "/home/operator/holdfast/restored/orders-eu-20260504T143221Z";

function restoreResult(id: string, verified: boolean, to = NEW_DIRECTORY): JobResult {
  const held = COMMITS.at(-40);
  const left = COMMITS.at(-39) ?? null;
  return {
    kind: "restore",
    job: id,
    plan_hash: "b3:9f2c4e0d6a51b7f8",
    snapshot: "snap-5",
    reached: { lsn: held?.lsn ?? "", xid: held?.xid ?? null, commit_time: held?.time ?? null, timeline: 1 },
    stopped_before: left,
    phases: PHASES,
    data_directory: to,
    port: 54_329,
    dsn: "host=127.0.0.1 port=54329 user=postgres dbname=postgres",
    verified,
    checks: [
      {
        severity: verified ? "ok" : "error",
        code: "reached_commit",
        message: verified
          ? "The last replayed commit is the one that was planned"
          : "The last replayed commit is 81230, planned was 81243",
        repair: null,
      },
      {
        severity: "ok",
        code: "page_checksums",
        message: "6,422,526 pages checked, none is wrong",
        repair: null,
      },
    ],
    at_target: "pause",
    running: true,
    bytes_reused: 0,
    bytes_written: 52_613_349_376,
    configuration: {
      directory: "/srv/restored/orders-eu.configuration",
      files: ["/etc/postgresql/17/main/pg_hba.conf", "/etc/postgresql/17/main/postgresql.conf"],
      missing: ["/etc/postgresql/17/main/pg_ident.conf"],
    },
  };
}

/** What restores in place have kept. */
const SET_ASIDE: Record<string, SetAside> = {
  "job-restore-in-place": {
    path: "/srv/postgres/orders-eu.pre-restore-20260504T143221Z",
    is_copy: false,
  },
  "job-restore-swapped-back": {
    path: "/srv/postgres/orders-eu.restored-20260504T143221Z",
    is_copy: true,
  },
};

const TABLES = [
  { table: "weddings", at_target: 2143, after_disaster: 0, restored: 2143 },
  { table: "guests", at_target: 214_388, after_disaster: 0, restored: 214_388 },
  { table: "vendors", at_target: 612, after_disaster: 612, restored: 612 },
];

const RESULTS: Record<string, (id: string) => JobResult> = {
  "job-restore-done": (id) => restoreResult(id, true),
  "job-restore-unverified": (id) => restoreResult(id, false),
  "job-restore-in-place": (id) => restoreResult(id, true, "/srv/postgres/orders-eu"),
  "job-restore-swapped-back": (id) => restoreResult(id, true, "/srv/postgres/orders-eu"),
  "job-backup-done": (id) => ({
    kind: "backup",
    job: id,
    snapshot: snapshot("0196a0b0-7777-7d31-9a0e-2f1b6f0c1a11", 120),
    phases: [{ name: "copying", seconds: 400, bytes: 52_613_349_376 }],
    files: 4211,
    warnings: ["wal_level is replica; logical slots are not part of a backup"],
    basis: null,
    full_because: null,
    transfer: { from: "server", zstd: true, link_bytes_per_second: 11_744_051, bytes: 9_663_676_416 },
    page_findings: [],
  }),
  "job-retention-done": (id) => ({
    kind: "retention",
    job: id,
    cluster: "orders-eu",
    policy_version: 3,
    removed: {
      snapshots: ["0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1b01", "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1b02"],
      wal_segments: 214,
      packs: 31,
      objects: 251,
      bytes: 1_803_212_800,
    },
    spared: ["0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1b03"],
    waiting: [
      {
        id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1c01",
        holder: "restore 0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1d01 on db-laptop",
        until: before(-240),
      },
    ],
    locked: [{ id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1c02", until: before(-86_400 * 3) }],
    locks: {
      days: 30,
      renewed: 1214,
      refused: 1,
      examples: [
        {
          object: "packs/11/11d0c9d07e6f5b437f3a91c0d4e84a5f",
          message: "the store refuses: these credentials may not change a lock",
        },
      ],
    },
    kept_by_store: [
      {
        object: "packs/7f/7f3a91c0d4e84a5fb2a1c9d07e6f5b43",
        message: "the store refuses: the object is locked",
      },
    ],
    marked: null,
    queue: QUEUE,
  }),
  "job-rekey-done": (id) => ({
    kind: "rekey",
    job: id,
    from: "s3://acme-backups/postgres",
    to: "s3://acme-backups-2/postgres",
    repository: "0196a0b0-5c7e-4d31-9a0e-2f1b6f0c1d77",
    ok: false,
    snapshots: 41,
    objects: 3_112,
    there: 0,
    bytes_read: 58_411_212_800,
    bytes_stored: 12_201_984_000,
    held_back: [
      {
        object: "wal/7341/00000001/0000000100000012000000A4",
        message:
          "wal/7341/00000001/0000000100000012000000A4 is damaged: frame 3 does not decrypt; no recovery can pass through this part of the log",
      },
    ],
    left: [
      {
        object: "policies/holds/7341/0196a0b0",
        message:
          "policies/holds/7341/0196a0b0 was signed by a writer who may only add backups and WAL (9f3c)",
      },
    ],
    switched: false,
    agents: ["orders-eu", "billing"],
    replicas: ["s3://acme-backups-us/postgres"],
    seconds: 1_873.2,
    means:
      "This machine's clusters stay where they were, since something could not be carried: look at it, and say --force to go on without it. Carried snapshots count as stored: verify or restore them to see them proven again.",
  }),
  "job-replication-done": (id) => ({
    kind: "replication",
    job: id,
    repository: "s3://acme-backups/postgres",
    ok: false,
    replicas: [
      {
        url: "s3://acme-backups-us/postgres",
        ok: true,
        objects: 214,
        bytes: 1_803_212_800,
        removed: 12,
        locked: 31,
        locks: { days: 30, renewed: 1214, refused: 0, examples: [] },
        held_back: [],
        lag: { objects: 0, bytes: 0, seconds: 0 },
        ahead: 0,
        seconds: 93.4,
        error: null,
      },
      {
        url: "gs://acme-backups-asia/postgres",
        ok: false,
        objects: 211,
        bytes: 1_786_435_584,
        removed: 0,
        locked: 0,
        locks: null,
        held_back: [
          {
            object: "packs/7f/7f3a91c0d4e84a5fb2a1c9d07e6f5b43",
            message:
              "packs/7f/7f3a91c0d4e84a5fb2a1c9d07e6f5b43 is damaged: its content is not what was signed",
          },
          { object: "snapshots/0196a0b0/1", message: "its list of files was not copied" },
        ],
        lag: { objects: 3, bytes: 16_777_216, seconds: 5400 },
        ahead: 2,
        seconds: 121,
        error: null,
      },
      {
        url: "/media/disk/postgres",
        ok: false,
        objects: 0,
        bytes: 0,
        removed: 0,
        locked: 0,
        locks: null,
        held_back: [],
        lag: null,
        ahead: 0,
        seconds: 0.1,
        error: {
          code: "disk_full",
          message: "no space left while writing packs/7f/7f3a91c0d4e84a5fb2a1c9d07e6f5b43",
          hint: "Free some space or enlarge the store, then run again; nothing half-written counts.",
          retryable: false,
          details: null,
        },
      },
    ],
  }),
  "job-verify-done": () => ({
    kind: "verify",
    ok: false,
    level: "data",
    sample: null,
    checked: {
      objects: 8123,
      bytes: 71_403_212_800,
      files: 0,
      pages: 0,
      wal_segments: 4100,
      wal_records: 0,
    },
    skipped: { objects: 0, bytes: 0, files: 0 },
    snapshots: [],
    not_shown: ["that a server starts from it and replays to a target: a restore shows that"],
    findings: [
      {
        severity: "error",
        kind: "corrupt",
        object: "packs/7f/7f3a91c0",
        message: "The content does not match its id",
      },
    ],
  }),
  "job-demo-done": (id) => ({
    kind: "demo",
    job: id,
    verified: true,
    restore: null,
    tables: TABLES,
    seconds: { "starting a private server": 2.1, copying: 6.4, replaying: 3.9 },
  }),
};

const DEMO = {
  cluster: "weddings",
  disaster: COMMITS.at(-3) as (typeof COMMITS)[number],
  tables: TABLES.map((table) => ({ ...table, restored: null })),
  suggested_target: `xid:${COMMITS.at(-3)?.xid}`,
};

const REFUSAL: ErrorObject = {
  code: "target_after_archive",
  message: "transaction 99999999 is not in the archived WAL",
  hint: "The archive ends with transaction 81282 at 2026-05-04 14:31:58 UTC. Choose a target up to there, or wait until more is archived.",
  retryable: false,
  details: {
    target: "xid:99999999",
    nearest: [COMMITS.at(-2), COMMITS.at(-1)].map((commit) => ({
      target: `xid:${commit?.xid}`,
      lsn: commit?.lsn,
      xid: commit?.xid,
      time: commit?.time,
    })),
  },
};

function page(request: RequestOf<"commits">) {
  const stored = COMMITS.filter((_, index) => isStored(index));
  const limit = request.limit;
  let middle = stored.length;
  if (request.around_xid) {
    const found = stored.findIndex((each) => each.xid === request.around_xid);
    middle = found < 0 ? stored.length : found;
  } else if (request.around_lsn) {
    const wanted = Number.parseInt(request.around_lsn.split("/")[1] ?? "0", 16);
    middle = stored.findIndex((each) => Number.parseInt(each.lsn.split("/")[1] ?? "0", 16) >= wanted);
  } else if (request.around) {
    const wanted = Date.parse(request.around);
    middle = stored.findIndex((each) => Date.parse(each.time) >= wanted);
  }
  if (middle < 0) middle = stored.length;
  const last = Math.min(middle + Math.ceil(limit / 2), stored.length);
  const start = Math.max(0, last - limit);
  const end = Math.min(start + limit, stored.length);
  return { commits: stored.slice(start, end), earlier: start > 0, later: end < stored.length };
}

function density(request: RequestOf<"density">) {
  return makeDensity(Date.parse(request.from), Date.parse(request.to), request.buckets);
}

/** An engine made of canned answers, for tests of the window without the real one. */
export class FakeEngine {
  scene: Scene = "busy";
  /** Every request that arrived, newest last. */
  readonly seen: { command: Command; request: unknown }[] = [];
  private readonly promoted = new Set<string>();
  private rebuilt = false;
  private readonly overrides = new Map<Command, (request: never) => unknown>();

  /** Replaces one answer until the next `reset`. */
  answerWith<C extends Command>(command: C, answer: (request: RequestOf<C>) => ResponseOf<C>): void {
    this.overrides.set(command, answer as (request: never) => unknown);
  }

  /** Refuses one command until the next `reset`. */
  refuse(command: Command, object: ConstructorParameters<typeof FakeRefusal>[0]): void {
    this.answerWith(command, () => {
      throw new FakeRefusal(object);
    });
  }

  reset(scene: Scene = "busy"): void {
    this.scene = scene;
    this.overrides.clear();
    this.promoted.clear();
    this.rebuilt = false;
    this.seen.length = 0;
  }

  answer<C extends Command>(command: C, request: RequestOf<C>): ResponseOf<C> {
    this.seen.push({ command, request });
    const override = this.overrides.get(command);
    if (override) return override(request as never) as ResponseOf<C>;
    if (this.scene === "failed") throw new FakeRefusal(DOWN);
    const answer = this.answers[command] as ((request: RequestOf<C>) => ResponseOf<C>) | undefined;
    if (!answer) throw new FakeRefusal({ ...DOWN, code: "usage", message: `no command ${command}` });
    return answer(request);
  }

  private pointsOf(name: string): Points {
    const override = this.overrides.get("points");
    if (override) return override({ cluster: name, from: null, to: null } as never) as Points;
    return this.scene === "empty"
      ? makeNoPoints(name)
      : name === "forked"
        ? makeForkedPoints(name)
        : makePoints(name);
  }

  private detail(id: string): JobDetail {
    const found = JOBS.find((each) => each.id === id);
    if (!found)
      throw new FakeRefusal({
        code: "not_found",
        message: `there is no job "${id}"`,
        hint: "List what there is with `holdfast jobs list`.",
        retryable: false,
        details: { what: "job", name: id },
      });
    const result = RESULTS[id]?.(id) ?? null;
    const promoted = result?.kind === "restore" && this.promoted.has(id);
    return jobDetail(found, {
      set_aside: SET_ASIDE[id] ?? null,
      result: promoted ? { ...result, at_target: "promote" as const } : result,
    });
  }

  private readonly answers: Answers = {
    workspace_status: () => {
      if (this.scene === "first-run" || this.scene === "no-keychain") {
        const unavailable = {
          kind: "unavailable" as const,
          message: "the OS keychain cannot be used: no Secret Service answers on the session bus",
        };
        return {
          ...WORKSPACE,
          clusters: [],
          repositories: [],
          running_jobs: [],
          secret_store: this.scene === "no-keychain" ? unavailable : WORKSPACE.secret_store,
        };
      }
      if (this.scene === "empty") return { ...WORKSPACE, clusters: [cluster("orders-eu")], running_jobs: [] };
      return { ...WORKSPACE, demo: DEMO };
    },
    overview: () => {
      if (this.scene === "first-run" || this.scene === "no-keychain") return [];
      if (this.scene === "empty") {
        const first = OVERVIEW.find((entry) => entry.state === "broken");
        return first
          ? [
              {
                ...first,
                cluster: cluster("orders-eu"),
                gaps: 0,
                snapshots: 0,
                bytes_stored: 0,
                last_snapshot: null,
                sentence: "Not recoverable: there is no backup yet",
              },
            ]
          : [];
      }
      return OVERVIEW;
    },
    repository_create: ({ url }) => ({ id: "new-repository", url, attached_at: NOW, unlock: "keychain" }),
    repository_attach: ({ url }) => ({
      id: "attached-repository",
      url,
      attached_at: NOW,
      unlock: "passphrase",
    }),
    cluster_check: ({ dsn }) =>
      dsn.includes("broken")
        ? {
            reachable: true,
            mode: null,
            server_version: "16.15",
            system_identifier: null,
            timeline: null,
            data_bytes: null,
            slot_cost: null,
            findings: [
              {
                severity: "error",
                code: "replication_not_permitted",
                message: "The role holdfast may not replicate.",
                repair: "ALTER ROLE holdfast REPLICATION;",
              },
              { severity: "ok", code: "wal_level", message: "wal_level is replica", repair: null },
            ],
          }
        : {
            reachable: true,
            mode: "physical",
            server_version: "17.11",
            system_identifier: "7412345678901234999",
            timeline: 1,
            data_bytes: 52_613_349_376,
            slot_cost: null,
            findings: [
              { severity: "ok", code: "wal_level", message: "wal_level is replica", repair: null },
              {
                severity: "warning",
                code: "slot_limit",
                message: "max_slot_wal_keep_size is 4 GiB: a longer outage of archiving makes a gap.",
                repair: "ALTER SYSTEM SET max_slot_wal_keep_size = '64GB';\nSELECT pg_reload_conf();",
              },
            ],
          },
    cluster_add: ({ name }) => cluster(name),
    cluster_remove: () => null,
    points: ({ cluster: name }) => this.pointsOf(name),
    // From the answer about points, so that a test replaces both by replacing that.
    timeline: (request) => makeTimeline(this.pointsOf(request.cluster), request),
    find: ({ cluster: name, table }) => ({
      cluster: name,
      from_lsn: COMMITS[0]?.lsn ?? "",
      to_lsn: COMMITS.at(-1)?.end_lsn ?? "",
      events: FOUND.filter((each) => table === null || each.relation === `public.${table}`),
      truncated: false,
      gaps: table === null ? (makePoints("orders-eu").windows[0]?.gaps ?? []) : [],
      names_known: true,
    }),
    commits: page,
    density,
    markers: (request) => {
      if (request.rebuild) this.rebuilt = true;
      return makeMarkers(this.scene === "empty" ? null : request, this.rebuilt);
    },
    rescue_start: () => ({ job: "job-restore-running" }),
    backup_start: () => ({ job: "job-backup-running" }),
    archive_start: () => ({ job: "job-archive" }),
    retention_plan: ({ at, policy }) => {
      if (this.scene === "empty") return NOTHING_KEPT;
      return at === null && policy === null ? OUTLINE : { ...OUTLINE, ...LATER };
    },
    policy_set: ({ policy }) => ({ version: 4, set_at: NOW, policy }),
    retention_queue: () => (this.scene === "empty" ? [] : QUEUE),
    retention_start: () => ({ job: "job-retention-done" }),
    retention_undelete: ({ mark }) => ({
      undeleted: QUEUE.filter((each) => !each.removing && (mark === null || each.id === mark)),
      removing: QUEUE.filter((each) => each.removing && mark === null),
    }),
    holds_list: () => (this.scene === "empty" ? [] : HOLDS),
    holds_add: ({ snapshot: held, from, to, reason }) => ({
      id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1e03",
      on: held === null ? { between: { from: from ?? NOW, to: to ?? NOW } } : { snapshot: held },
      reason,
      placed_at: NOW,
    }),
    holds_remove: ({ hold }) => {
      const found = HOLDS.find(({ id }) => id === hold);
      if (!found) throw new FakeRefusal({ code: "not_found", message: `there is no hold ${hold}` });
      return found;
    },
    replicas_list: () => (this.scene === "empty" ? NO_REPLICAS : REPLICAS),
    replicas_forget: () => null,
    replicate_start: () => ({ job: "job-replication-done" }),
    bundle_start: () => ({ job: "job-backup-running" }),
    verify_start: () => ({ job: "job-verify-done" }),
    verify_offline_start: () => ({ job: "job-verify-done" }),
    restore_destination: ({ cluster: name }) => ({
      path: `/home/operator/holdfast/restored/${name}-20260504T143221Z`,
    }),
    restore_plan: ({ target, exclusive, to }) => {
      if (target === "xid:99999999") throw new FakeRefusal(REFUSAL);
      return makePlan(target, exclusive, to);
    },
    restore_loss: () => LOSS_CHANGES,
    restore_run: () => ({ job: "job-restore-running" }),
    restore_step: ({ job: id }) => {
      const { kind: _, ...result } = restoreResult(id, true) as Extract<JobResult, { kind: "restore" }>;
      return result;
    },
    restore_inspect: ({ database }) => ({
      database: database ?? "postgres",
      replayed_to: "3/5A1F0220",
      columns: ["id", "couple"],
      rows: [
        ["1", "Ada & Grace"],
        ["2", null],
      ],
      truncated: false,
      seconds: 0.012,
    }),
    restore_pause: () => null,
    restore_resume: () => null,
    restore_promote: ({ job: id }) => {
      this.promoted.add(id);
      const { kind: _, ...result } = restoreResult(id, true) as Extract<JobResult, { kind: "restore" }>;
      return { ...result, at_target: "promote" };
    },
    restore_discard: () => null,
    restore_swap_back: () => ({ data_directory: "/srv/orders", set_aside: "/srv/orders.holdfast-copy" }),
    restore_purge: () => ({ removed: "/srv/orders.holdfast-old" }),
    jobs_list: () => (this.scene === "first-run" || this.scene === "no-keychain" ? [] : JOBS),
    job_show: ({ job: id }) => this.detail(id),
    job_cancel: () => null,
    repository_status: ({ repository }) => statusOf(repository),
    keys_list: () => SLOTS,
    keys_add: ({ key, label }) => ({ ...NEW_SLOT, kind: key.kind, label: label ?? NEW_SLOT.label }),
    keys_remove: ({ slot }) => ({
      removed: slot,
      means: REMOVING_MEANS,
      left: SLOTS.filter((each) => each.id !== slot),
    }),
    keys_rotate: ({ slot, key }) => ({
      removed: slot,
      means: REMOVING_MEANS,
      added: { ...NEW_SLOT, kind: key.kind },
    }),
    key_pair_generate: ({ private_key_file }) => ({
      public_key: `holdfast-public-key ${"5e".repeat(32)} 0a1b2c3d`,
      private_key_file: private_key_file ?? null,
    }),
    recovery_kit: ({ file }) => ({
      file,
      slot: NEW_SLOT.id,
      label: "Recovery kit of 2026-05-04",
      repository: "7b6f2c1e-0a53-4a8e-9f0e-2d1c3b4a5f60",
    }),
    demo_start: () => ({ job: "job-demo-running" }),
    demo_discard: () => null,
  };
}

/** The journal of one of the fixture's jobs. */
export function journalOf(id: string): JobEvent[] {
  const found = JOBS.find((each) => each.id === id) ?? job(id);
  const bytes = { unit: "bytes", total: 21_474_836_480 };
  const events: JobEvent[] = [];
  const add = (more: Partial<JobEvent>) => events.push(jobEvent(events.length + 1, { job: id, ...more }));
  if (found.kind === "restore" && found.phase === "fetching") {
    add({ kind: "phase_started", phase: "fetching", ...bytes, target: "latest" });
    add({ phase: "fetching", ...bytes, done: 9_663_676_416, rate: found.paused ? null : 73_400_320 });
  } else if (found.kind === "restore") {
    add({ kind: "phase_started", phase: "fetching", ...bytes });
    add({ phase: "fetching", ...bytes, done: 9_663_676_416, rate: 73_400_320 });
    add({ phase: "fetching", ...bytes, done: 21_474_836_480 });
    add({
      kind: "warning",
      phase: "fetching",
      message: "One object had to be asked for twice: s3 answered 503",
    });
    add({ kind: "phase_started", phase: "replaying", unit: "segments", total: 224 });
    add({
      phase: "replaying",
      unit: "segments",
      total: 224,
      done: 131,
      rate: 1.2,
      replayed_to: before(3600 * 4),
      replayed_lsn: "0/5F3A1C40",
      target: `time:${before(3000)}`,
      target_lsn: "0/65D0A2E8",
    });
    add({ kind: "log", phase: "replaying", message: "The private server reports 131 segments replayed" });
  } else if (found.kind === "archive") {
    add({ kind: "phase_started", phase: "streaming", unit: "bytes" });
    add({ phase: "streaming", unit: "bytes", done: 734_003_200, rate: 48_230 });
  } else if (found.kind === "demo") {
    add({ kind: "phase_started", phase: "starting a private server" });
    add({ kind: "phase_started", phase: "loading 2,143 active weddings", unit: "rows", total: 217_143 });
    add({ phase: "loading 2,143 active weddings", unit: "rows", total: 217_143, done: 84_020, rate: 41_000 });
  } else {
    add({ kind: "phase_started", phase: "connecting" });
    add({ kind: "phase_started", phase: "waiting for the server's checkpoint" });
    add({ kind: "phase_started", phase: "copying", unit: "bytes", total: 52_613_349_376 });
    add({ phase: "copying", unit: "bytes", total: 52_613_349_376, done: 18_253_611_008, rate: 129_000_000 });
  }
  if (found.state === "succeeded") add({ kind: "finished", phase: "" });
  if (found.state === "failed") add({ kind: "failed", phase: "", message: found.error?.message ?? null });
  if (found.state === "cancelled") add({ kind: "cancelled", phase: "", message: "cancelled" });
  return events;
}

export type AnyCommand = keyof Commands;
