import type { Hold, KeySlot, Replicas, RepositoryStatus } from "../api/bindings";
import { before, WORKSPACE } from "./world";

/** Data for tests only: what a repository's keys, store, holds and replicas look like. */

export const REMOVING_MEANS =
  "What opened this slot opens the repository no more. The repository's own key is unchanged.";

export const SLOTS: KeySlot[] = [
  {
    id: "0b8f9a3e-6a55-4d0e-8f44-0d8f5f0f7a11",
    kind: "passphrase",
    label: "Passphrase",
    created_at: "2026-01-12T08:00:00Z",
    public_key: null,
    opened: false,
  },
  {
    id: "1c9f9a3e-6a55-4d0e-8f44-0d8f5f0f7a12",
    kind: "keychain",
    label: "anna's laptop",
    created_at: "2026-01-12T08:01:00Z",
    public_key: null,
    opened: true,
  },
];

export const NEW_SLOT: KeySlot = {
  id: "2d0f9a3e-6a55-4d0e-8f44-0d8f5f0f7a13",
  kind: "passphrase",
  label: "New",
  created_at: "2026-05-04T12:00:00Z",
  public_key: null,
  opened: false,
};

/** The first repository is in a bucket that honours everything, the other in a store that does not. */
export function statusOf(id: string | null): RepositoryStatus {
  const summary = WORKSPACE.repositories.find((each) => each.id === id) ?? WORKSPACE.repositories[0];
  if (summary === undefined) throw new Error("the fixture has no repository");
  const bucket = summary.url.startsWith("s3:");
  return {
    ...summary,
    slots: SLOTS,
    store: {
      put_if_absent: bucket,
      list_after_write: true,
      range_get: true,
      lock: bucket ? { kind: "rule", mode: "compliance", days: 30 } : { kind: "none" },
    },
    objects: {
      index: { objects: 312, bytes: 88_080_384 },
      keys: { objects: 6, bytes: 4211 },
      packs: { objects: 4211, bytes: 66_571_993_088 },
      snapshots: { objects: 260, bytes: 1_288_490_188 },
      wal: { objects: 9312, bytes: 3_454_649_140 },
    },
    bytes: 71_403_212_800,
  };
}

export const HOLDS: Hold[] = [
  {
    id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1e01",
    on: { between: { from: before(86_400 * 2), to: before(86_400) } },
    reason: "Case 2026-114: the weddings table was damaged on this day",
    placed_at: before(3600),
  },
  {
    id: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1e02",
    on: { snapshot: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1b03" },
    reason: "Audit of the year",
    placed_at: before(86_400 * 12),
  },
];

export const REPLICAS: Replicas = {
  replicas: [
    {
      url: "s3://acme-backups-us/postgres",
      added_at: before(86_400 * 30),
      lag: { objects: 0, bytes: 0, seconds: 0 },
      error: null,
    },
    {
      url: "gs://acme-backups-asia/postgres",
      added_at: before(86_400 * 9),
      lag: { objects: 214, bytes: 1_803_212_800, seconds: 5400 },
      error: null,
    },
    {
      url: "/media/disk/postgres",
      added_at: before(86_400 * 3),
      lag: null,
      error: {
        code: "replica_missing",
        message: "nothing is at /media/disk/postgres, where a replica was",
        hint: "Is the disk mounted?",
        retryable: false,
        details: null,
      },
    },
  ],
  score: { copies: 2, media: 2, off_site: 2, immutable: null, errors: 1 },
};

export const NO_REPLICAS: Replicas = {
  replicas: [],
  score: { copies: 1, media: 1, off_site: 0, immutable: 0, errors: 0 },
};
