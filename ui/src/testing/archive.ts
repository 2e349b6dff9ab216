import type { Commit, Points } from "../api/bindings";
import { NOW, PROOF, snapshot } from "./world";

/** The archived history that tests look at: commits, a gap, snapshots in every state. */

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
  };
}

export function isStored(index: number): boolean {
  return index <= GAP_AFTER || index >= GAP_BEFORE;
}
