import type { Commit, Density, FoundEvent, Marker, Markers, Points, Timeline } from "../api/bindings";
import type { RequestOf } from "../api/client";
import { before, NOW, PROOF, snapshot } from "./world";

/** The archived history that tests look at: commits, a gap, snapshots in every state. */

/** A cluster of which nothing is archived. */
export function makeNoPoints(cluster: string): Points {
  return {
    cluster,
    windows: [],
    snapshots: [],
    restore_points: [],
    gaps: [],
    system_changes: [],
    needs_snapshot: {
      reason: "no_snapshot",
      message: "there is no backup yet: WAL alone restores nothing",
      gap: null,
    },
    slot: null,
  };
}

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

export function at(index: number): Commit {
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
    cause: "wal_removed" as const,
    explanation: "the server had removed this WAL",
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
      snapshot("snap-3", 86_400 * 1.4, { state: "proven", proof: PROOF }),
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
    gaps: holed ? [gap] : [],
    system_changes: [],
    needs_snapshot: null,
    slot: null,
  };
}

export function isStored(index: number): boolean {
  return index <= GAP_AFTER || index >= GAP_BEFORE;
}

export function makeDensity(from: number, to: number, buckets: number): Density {
  const counts = new Array<number>(buckets).fill(0);
  COMMITS.forEach((each, index) => {
    const time = Date.parse(each.time);
    if (!isStored(index) || each.kind !== "commit" || time < from || time >= to) return;
    const bucket = Math.floor(((time - from) / (to - from)) * buckets);
    counts[bucket] = (counts[bucket] ?? 0) + 1;
  });
  return {
    from: new Date(from).toISOString(),
    to: new Date(to).toISOString(),
    bucket_seconds: (to - from) / 1000 / buckets,
    counts,
  };
}

/** The same with two promotions: each timeline left the one before it. */
export function makeForkedPoints(name: string): Points {
  const points = makePoints(name);
  const cuts = [0, 1900, 3100, COMMITS.length - 1];
  return {
    ...points,
    windows: [1, 2, 3].map((timeline) => ({
      timeline,
      from: at(cuts[timeline - 1] as number).time,
      to: at(cuts[timeline] as number).time,
      from_lsn: at(cuts[timeline - 1] as number).lsn,
      to_lsn: at(cuts[timeline] as number).end_lsn,
      gaps: [],
    })),
  };
}

/** Groups what has a time by the column it falls in. */
function columns<T>(
  items: readonly T[],
  time: (item: T) => string,
  from: number,
  to: number,
  groups: number,
) {
  const found = new Map<number, T[]>();
  for (const item of items) {
    const column = Math.floor(((Date.parse(time(item)) - from) / (to - from)) * groups);
    if (column < -1 || column > groups) continue;
    found.set(column, [...(found.get(column) ?? []), item]);
  }
  return [...found.entries()]
    .sort(([a], [b]) => a - b)
    .map(([, group]) => ({
      group,
      span: { from: time(group[0] as T), to: time(group.at(-1) as T) },
      count: group.length,
      one: group.length === 1 ? (group[0] as T) : null,
    }));
}

const EMPTY: Omit<Timeline, "cluster" | "shown" | "density"> = {
  read_at: NOW,
  reading: false,
  problem: null,
  extent: null,
  branches: [],
  windows: [],
  snapshots: [],
  snapshots_total: 0,
  restore_points: [],
  restore_points_total: 0,
};

/** The engine's summary of given points, in the columns that were asked for. */
export function makeTimeline(points: Points, request: RequestOf<"timeline">): Timeline {
  const times = [
    ...points.windows.flatMap((each) => [each.from, each.to]),
    ...points.snapshots.flatMap((each) => [each.started_at, each.finished_at]),
    ...points.restore_points.map((each) => each.time),
  ].flatMap((each) => (each === null ? [] : [Date.parse(each)]));
  if (times.length === 0) {
    const shown = { from: before(3600), to: NOW };
    return {
      ...EMPTY,
      cluster: points.cluster,
      shown,
      density: makeDensity(Date.parse(shown.from), Date.parse(shown.to), request.buckets),
    };
  }
  const [oldest, newest] = [Math.min(...times), Math.max(...times)];
  const shown = request.shown ?? {
    from: new Date(oldest - (newest - oldest) * 0.03).toISOString(),
    to: new Date(newest + (newest - oldest) * 0.06).toISOString(),
  };
  const [from, to] = [Date.parse(shown.from), Date.parse(shown.to)];
  const timelines = [...new Set(points.windows.map((each) => each.timeline))].sort((a, b) => a - b);
  return {
    ...EMPTY,
    cluster: points.cluster,
    extent: { from: new Date(oldest).toISOString(), to: new Date(newest).toISOString() },
    shown,
    branches: timelines.map((timeline, index) => ({
      timeline,
      parent: timelines[index - 1] ?? null,
      switch_lsn: index === 0 ? null : (points.windows[index]?.from_lsn ?? null),
      switch_time: index === 0 ? null : (points.windows[index]?.from ?? null),
      ancestry_missing: false,
    })),
    windows: points.windows,
    snapshots: columns(points.snapshots, (each) => each.finished_at, from, to, request.groups).map(
      ({ group, span, count, one }) => ({
        span,
        count,
        snapshot: one,
        states: [...new Set(group.map((each) => each.state))].map((state) => [
          state,
          group.filter((each) => each.state === state).length,
        ]),
      }),
    ),
    snapshots_total: points.snapshots.length,
    restore_points: columns(points.restore_points, (each) => each.time, from, to, request.groups).map(
      ({ span, count, one }) => ({ span, count, point: one }),
    ),
    restore_points_total: points.restore_points.length,
    density: makeDensity(from, to, request.buckets),
  };
}

/** A table that was emptied and one that was dropped, and one emptied in a transaction that was rolled back. */
export const FOUND: FoundEvent[] = [
  {
    index: 2300,
    kind: "delete" as const,
    relation: "public.guests",
    rows: 214_388,
    outcome: "committed" as const,
  },
  {
    index: 3000,
    kind: "truncate" as const,
    relation: "public.weddings",
    rows: 0,
    outcome: "aborted" as const,
  },
  { index: 3400, kind: "drop" as const, relation: "public.vendors", rows: 0, outcome: "committed" as const },
].map(({ index, kind, relation, rows, outcome }) => {
  const commit = at(index);
  return {
    kind,
    xid: commit.xid,
    outcome,
    lsn: commit.lsn,
    commit_lsn: commit.lsn,
    commit_time: commit.time,
    timeline: 1,
    database: "orders",
    database_oid: 16_400,
    relation,
    oid: 16_500,
    relfilenode: 16_500,
    rows: { inserted: 0, updated: 0, deleted: rows },
    rows_estimate: kind === "drop" ? 612 : null,
    target: `xid:${commit.xid}`,
  };
});

const NOTHING = { deletes: 0, rewrites: 0, truncates: 0, drops: 0, databases: 0 };

/** What the index tells of the same: committed transactions, one of them of tables without a name. */
function markerAt(index: number, more: Partial<Marker> & Pick<Marker, "kind">): Marker {
  const commit = at(index);
  return {
    xid: commit.xid,
    lsn: commit.lsn,
    commit_lsn: commit.lsn,
    commit_time: commit.time,
    timeline: 1,
    database: "orders",
    database_oid: 16_400,
    relation: null,
    oid: null,
    relfilenode: 16_977,
    relations: 1,
    rows: null,
    rows_estimate: null,
    begun_before: false,
    target: `xid:${commit.xid}`,
    ...more,
  };
}

export const MARKERS: Marker[] = [
  markerAt(500, { kind: "drop", relations: 3 }),
  markerAt(1200, { kind: "rewrite", relation: "public.messages", oid: 16_510, rows_estimate: 90_000 }),
  markerAt(2300, { kind: "delete", relation: "public.guests", oid: 16_500, rows: 214_388 }),
  markerAt(3400, { kind: "drop", relation: "public.vendors", oid: 16_500, rows_estimate: 612 }),
];

/** Where the fixture's index has no markers, until they are rebuilt. */
const UNKNOWN: Markers["unknown"] = [
  { timeline: 1, from_lsn: at(0).lsn, to_lsn: at(300).lsn, from: at(0).time, to: at(299).time },
];

/** The engine's answer about what destroyed rows; of nothing at all without a request. */
export function makeMarkers(request: RequestOf<"markers"> | null, rebuilt: boolean): Markers {
  const within = (time: string) =>
    (request?.from == null || Date.parse(time) >= Date.parse(request.from)) &&
    (request?.to == null || Date.parse(time) < Date.parse(request.to));
  const markers = request === null ? [] : MARKERS.filter((each) => within(each.commit_time));
  const limit = request?.limit ?? 0;
  return {
    cluster: request?.cluster ?? "",
    markers: markers.slice(0, limit),
    omitted: Math.max(0, markers.length - limit),
    from: request?.from ?? at(0).time,
    to: request?.to ?? at(-1).time,
    bucket_seconds: request?.buckets ? 1 : 0,
    buckets: new Array(request?.buckets ?? 0).fill(NOTHING),
    unknown: request === null || rebuilt ? [] : UNKNOWN,
  };
}
