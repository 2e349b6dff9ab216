import type { LossChanges, RestorePlan } from "../api/bindings";
import { at } from "./archive";
import { NOW, snapshot } from "./world";

/** What going back discards, table by table; the end of it was not looked at. */
export const LOSS_CHANGES: LossChanges = {
  from_lsn: "3/5A1F0220",
  to_lsn: "3/5A5E0000",
  complete: false,
  wal_bytes_left: 286_720,
  lower_bound: true,
  total: { inserted: 61, updated: 9, deleted: 4200 },
  relations: [
    {
      database: "orders",
      database_oid: 16_384,
      relation: "public.timeline_items",
      oid: 16_412,
      relfilenode: 16_412,
      rows: { inserted: 60, updated: 9, deleted: 4200 },
      transactions: 35,
    },
    {
      database: "orders",
      database_oid: 16_384,
      relation: null,
      oid: null,
      relfilenode: 16_977,
      rows: { inserted: 1, updated: 0, deleted: 0 },
      transactions: 1,
    },
  ],
  relations_more: 3,
  events: [],
  events_more: 0,
  schema_changes: 2,
  gaps: [],
};

/** A plan with something in every part of it. */
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
      changes: LOSS_CHANGES,
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
