import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useCallback, useRef, useState } from "react";
import type { Commit, CommitPage } from "../api/bindings";
import { call, type RequestOf } from "../api/client";
import { queryKey } from "../api/queries";

const PAGE = 200;
const TRIES = 6;

/** Transactions that were rolled back are shown, but nobody goes back to one. */
export function isStop(commit: Commit): boolean {
  return commit.kind !== "abort";
}

function nearest(commits: readonly Commit[], time: number): Commit | null {
  let best: Commit | null = null;
  for (const commit of commits) {
    if (!isStop(commit)) continue;
    if (best === null || Math.abs(Date.parse(commit.time) - time) < Math.abs(Date.parse(best.time) - time)) {
      best = commit;
    }
  }
  return best;
}

type Where = Omit<RequestOf<"commits">, "cluster" | "limit">;

function fetchPage(client: QueryClient, cluster: string, where: Where): Promise<CommitPage> {
  const request = { cluster, ...where, limit: PAGE };
  return client.fetchQuery({
    queryKey: queryKey("commits", request),
    queryFn: () => call("commits", request),
    staleTime: 5_000,
  });
}

/** The commit `by` stops away from `from` in WAL order, as far as there are that many. */
async function stepFrom(client: QueryClient, cluster: string, from: Commit, by: number) {
  let around = from;
  let left = by;
  for (let tries = 0; tries < TRIES; tries += 1) {
    const page = await fetchPage(client, cluster, { around: null, around_lsn: around.lsn });
    const stops = page.commits.filter(isStop);
    const index = stops.findIndex((commit) => commit.lsn === around.lsn);
    if (index < 0) return { commit: around, page };
    const wanted = index + left;
    const found = stops[wanted];
    if (found) return { commit: found, page };
    const edge = left < 0 ? stops[0] : stops.at(-1);
    const more = left < 0 ? page.earlier : page.later;
    if (!edge || !more || edge.lsn === around.lsn) return { commit: edge ?? around, page };
    left -= (left < 0 ? 0 : stops.length - 1) - index;
    around = edge;
  }
  return { commit: around, page: null };
}

/** Which commit the cursor is on, and the ways of moving it. The cursor is never between commits. */
export function useCommits(cluster: string) {
  const client = useQueryClient();
  const [commit, setCommit] = useState<Commit | null>(null);
  const [page, setPage] = useState<CommitPage | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [note, setNote] = useState<string | null>(null);
  const current = useRef<Commit | null>(null);
  const turn = useRef(0);

  const settle = useCallback((found: Commit | null, from: CommitPage | null) => {
    current.current = found;
    setCommit(found);
    if (from) setPage(from);
    setError(null);
  }, []);

  /** Only the last of several requests that overlap counts. */
  const latest = useCallback(
    async (work: () => Promise<{ commit: Commit | null; page: CommitPage | null; note?: string }>) => {
      turn.current += 1;
      const mine = turn.current;
      try {
        const found = await work();
        if (mine !== turn.current) return;
        settle(found.commit, found.page);
        setNote(found.note ?? null);
      } catch (failure) {
        if (mine === turn.current) setError(failure);
      }
    },
    [settle],
  );

  const selectTime = useCallback(
    (time: number, xid?: string) =>
      latest(async () => {
        const around = new Date(time).toISOString();
        const found = await fetchPage(client, cluster, { around, around_lsn: null });
        const named = xid === undefined ? undefined : found.commits.find((each) => each.xid === xid);
        const missing = xid !== undefined && named === undefined;
        return {
          commit: named ?? nearest(found.commits, time),
          page: found,
          ...(missing
            ? { note: `Transaction ${xid} does not stand near that time; the nearest commit is shown.` }
            : {}),
        };
      }),
    [client, cluster, latest],
  );

  const selectNewest = useCallback(
    (xid?: string) =>
      latest(async () => {
        const found = await fetchPage(client, cluster, { around: null, around_lsn: null });
        const named = xid === undefined ? undefined : found.commits.find((each) => each.xid === xid);
        const missing = xid !== undefined && named === undefined;
        return {
          commit: named ?? found.commits.filter(isStop).at(-1) ?? null,
          page: found,
          ...(missing
            ? {
                note: `Transaction ${xid} is not among the newest commits; it can still be planned by its id.`,
              }
            : {}),
        };
      }),
    [client, cluster, latest],
  );

  const selectLsn = useCallback(
    (lsn: string) =>
      latest(async () => {
        const found = await fetchPage(client, cluster, { around: null, around_lsn: lsn });
        return { commit: found.commits.find((each) => each.lsn === lsn) ?? current.current, page: found };
      }),
    [client, cluster, latest],
  );

  const step = useCallback(
    (by: number) =>
      latest(async () => {
        const from = current.current;
        if (from === null) return { commit: null, page: null };
        return stepFrom(client, cluster, from, by);
      }),
    [client, cluster, latest],
  );

  return { commit, page, error, note, selectTime, selectNewest, selectLsn, step };
}

export type CommitCursor = ReturnType<typeof useCommits>;
