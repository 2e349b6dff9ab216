import type { Queued, RetentionOutline, SnapshotFate } from "../api/bindings";
import { before } from "./world";

/** What is marked for removal. */
export const QUEUE: Queued[] = [
  {
    id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1c01",
    marked_at: before(86_400 * 8),
    due_at: before(86_400),
    removing: false,
    snapshots: ["0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1b03"],
    wal_segments: 12,
    packs: 4,
    bytes: 96_468_992,
  },
  {
    id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1c02",
    marked_at: before(86_400 * 9),
    due_at: before(86_400 * 2),
    removing: true,
    snapshots: [],
    wal_segments: 96,
    packs: 0,
    bytes: 803_212_800,
  },
];

function fate(day: number, kept: boolean, code: string, text: string): SnapshotFate {
  return {
    id: `0196a0b0-5c7e-7d31-9a0e-2f1b6f0c2d${String(day).padStart(2, "0")}`,
    system_identifier: "7410023459871120001",
    timeline: 1,
    started_at: before(86_400 * day + 7_200),
    start_lsn: "4A/1C000028",
    stop_lsn: "4A/1D2C6F10",
    bytes_added: 48_234_496,
    kept,
    reasons: [{ code, of: null, text }],
  };
}

/** What is kept of a cluster now. */
export const OUTLINE: RetentionOutline = {
  plan: {
    cluster: "orders-eu",
    at: before(0),
    policy: {
      version: 3,
      set_at: before(86_400 * 20),
      policy: {
        format: 1,
        keep: { hourly: "48h", daily: "30d", weekly: "12mo", monthly: null, yearly: null, any_point: "30d" },
        size_cap: 1_099_511_627_776,
        overrides: [
          {
            name: "June",
            from: "2026-06-01T00:00:00Z",
            to: "2026-07-01T00:00:00Z",
            keep: { hourly: "60d", daily: null, weekly: null, monthly: null, yearly: null, any_point: "60d" },
          },
        ],
      },
    },
    snapshots: [
      fate(40, false, "expired", "no rule, window or hold covers it any more"),
      fate(41, false, "expired", "no rule, window or hold covers it any more"),
      fate(0, true, "newest", "the newest way back, up to now"),
      fate(3, true, "daily", "the newest of its day"),
    ],
    wal: [
      {
        system_identifier: "7410023459871120001",
        timeline: 1,
        from_lsn: "48/1C000000",
        to_lsn: "49/00000000",
        from: before(86_400 * 41),
        to: before(86_400 * 40),
        segments: 228,
        bytes: 1_403_212_800,
        kept: false,
        reasons: [{ code: "unreachable", of: null, text: "no snapshot leads to it" }],
      },
      {
        system_identifier: "7410023459871120001",
        timeline: 1,
        from_lsn: "49/00000000",
        to_lsn: "4B/00000000",
        from: before(86_400 * 30),
        to: before(40),
        segments: 512,
        bytes: 4_403_212_800,
        kept: true,
        reasons: [{ code: "window", of: null, text: "any point of the window" }],
      },
    ],
    history_files: 0,
    size: { kept: 9_803_212_800, dying: 1_803_212_800, cap: 1_099_511_627_776, over_cap: 0 },
    warnings: [],
  },
  kept: { snapshots: 130, wal_segments: 512, oldest: before(86_400 * 360) },
  dying: { snapshots: 2, wal_segments: 228, oldest: before(86_400 * 41) },
  lost: null,
};

/** What a later time or another policy would change. */
export const LATER: Pick<RetentionOutline, "kept" | "lost"> = {
  kept: { snapshots: 61, wal_segments: 240, oldest: before(86_400 * 300) },
  lost: { snapshots: 69, wal_segments: 272, oldest: before(86_400 * 360) },
};

const DEFAULT_POLICY = {
  version: 0,
  set_at: null,
  policy: { ...OUTLINE.plan.policy.policy, size_cap: null, overrides: [] },
};

/** A cluster of which nothing is stored. */
export const NOTHING_KEPT: RetentionOutline = {
  plan: {
    ...OUTLINE.plan,
    policy: DEFAULT_POLICY,
    snapshots: [],
    wal: [],
    size: { kept: 0, dying: 0, cap: null, over_cap: 0 },
  },
  kept: { snapshots: 0, wal_segments: 0, oldest: null },
  dying: { snapshots: 0, wal_segments: 0, oldest: null },
  lost: null,
};
