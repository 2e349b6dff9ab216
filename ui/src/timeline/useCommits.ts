import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useCallback, useMemo, useRef, useState } from "react";
import type { Commit, CommitPage } from "../api/bindings";
import { call, type RequestOf } from "../api/client";
import { queryKey } from "../api/queries";
import { walBetween } from "../wal/lsn";

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

type Where = Partial<Pick<RequestOf<"commits">, "around" | "around_lsn" | "around_xid">>;

/** Whose commits: of a cluster, along the way to a timeline. */
interface Way {
  cluster: string;
  timeline: number | null;
}

function fetchPage(client: QueryClient, way: Way, where: Where): Promise<CommitPage> {
  const request = { around: null, around_lsn: null, around_xid: null, ...way, ...where, limit: PAGE };
  return client.fetchQuery({
    queryKey: queryKey("commits", request),
    queryFn: () => call("commits", request),
    staleTime: 5_000,
  });
}

/** The commit `by` stops away from `from` in WAL order, as far as there are that many. */
async function stepFrom(client: QueryClient, way: Way, from: Commit, by: number) {
  let around = from;
  let left = by;
  for (let tries = 0; tries < TRIES; tries += 1) {
    const page = await fetchPage(client, way, { around_lsn: around.lsn });
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

/** The stop that lies `by` stops from a time that is itself no stop. */
function stepFromTime(page: CommitPage, time: number, by: number): Commit | null {
  const stops = page.commits.filter(isStop);
  const after = stops.findIndex((commit) => Date.parse(commit.time) > time);
  const next = after < 0 ? stops.length : after;
  const wanted = by > 0 ? next + by - 1 : next + by;
  return stops[Math.min(Math.max(wanted, 0), stops.length - 1)] ?? null;
}

/**
 * Which commit the cursor is on, and the ways of moving it. The cursor snaps to commits; only on request
 * does it stand at a time of its own, and then the nearest commits are still known.
 */
export function useCommits(cluster: string, timeline: number | null = null) {
  const client = useQueryClient();
  const [commit, setCommit] = useState<Commit | null>(null);
  const [free, setFree] = useState<number | null>(null);
  const [page, setPage] = useState<CommitPage | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [note, setNote] = useState<string | null>(null);
  const current = useRef<{ commit: Commit | null; free: number | null; page: CommitPage | null }>({
    commit: null,
    free: null,
    page: null,
  });
  const turn = useRef(0);
  const way = useMemo(() => ({ cluster, timeline }), [cluster, timeline]);

  const settle = useCallback((found: Commit | null, from: CommitPage | null, at: number | null) => {
    current.current = { commit: found, free: at, page: from ?? current.current.page };
    setCommit(found);
    setFree(at);
    if (from) setPage(from);
    setError(null);
  }, []);

  /** Only the last of several requests that overlap counts. */
  const latest = useCallback(
    async (
      work: () => Promise<{
        commit: Commit | null;
        page: CommitPage | null;
        free?: number;
        note?: string | null;
      }>,
    ) => {
      turn.current += 1;
      const mine = turn.current;
      try {
        const found = await work();
        if (mine !== turn.current) return;
        settle(found.commit, found.page, found.free ?? null);
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
        const found = await fetchPage(client, way, { around: new Date(time).toISOString() });
        const named = xid === undefined ? undefined : found.commits.find((each) => each.xid === xid);
        return {
          commit: named ?? nearest(found.commits, time),
          page: found,
          note:
            xid !== undefined && named === undefined
              ? `Transaction ${xid} does not stand near that time; the nearest commit is shown.`
              : null,
        };
      }),
    [client, way, latest],
  );

  /** Stands at a time where no commit needs to be. */
  const selectFree = useCallback(
    (time: number) =>
      latest(async () => {
        const found = await fetchPage(client, way, { around: new Date(time).toISOString() });
        return { commit: nearest(found.commits, time), page: found, free: Math.round(time) };
      }),
    [client, way, latest],
  );

  const selectNewest = useCallback(
    () =>
      latest(async () => {
        const found = await fetchPage(client, way, {});
        return { commit: found.commits.filter(isStop).at(-1) ?? null, page: found };
      }),
    [client, way, latest],
  );

  const selectXid = useCallback(
    (xid: string) =>
      latest(async () => {
        const found = await fetchPage(client, way, { around_xid: xid });
        const named = found.commits.find((each) => each.xid === xid);
        const rolledBack = named !== undefined && !isStop(named);
        return {
          commit: named && !rolledBack ? named : nearestOrNewest(found, named),
          page: found,
          note:
            named === undefined
              ? `Transaction ${xid} did not end in the WAL that is stored; the newest commit is shown.`
              : rolledBack
                ? `Transaction ${xid} was rolled back: nothing of it counts. The nearest commit is shown.`
                : null,
        };
      }),
    [client, way, latest],
  );

  const selectLsn = useCallback(
    (lsn: string) =>
      latest(async () => {
        const found = await fetchPage(client, way, { around_lsn: lsn });
        const wanted = found.commits.find((each) => each.lsn === lsn && isStop(each));
        // A place between two commits: what was committed up to there ends with the one before it.
        const before = found.commits.filter(isStop).filter((each) => (walBetween(each.lsn, lsn) ?? 0) >= 0);
        return {
          commit: wanted ?? before.at(-1) ?? found.commits.find(isStop) ?? null,
          page: found,
          note: wanted
            ? null
            : `No transaction ended exactly at ${lsn}; the last one that ended before it is shown.`,
        };
      }),
    [client, way, latest],
  );

  const step = useCallback(
    (by: number) =>
      latest(async () => {
        const { commit: from, free: time, page: known } = current.current;
        if (time !== null && known !== null) return { commit: stepFromTime(known, time, by), page: null };
        if (from === null) return { commit: null, page: null };
        return stepFrom(client, way, from, by);
      }),
    [client, way, latest],
  );

  return {
    commit,
    free,
    page,
    error,
    note,
    selectTime,
    selectFree,
    selectNewest,
    selectXid,
    selectLsn,
    step,
  };
}

function nearestOrNewest(page: CommitPage, named: Commit | undefined): Commit | null {
  if (named) return nearest(page.commits, Date.parse(named.time));
  return page.commits.filter(isStop).at(-1) ?? null;
}

export type CommitCursor = ReturnType<typeof useCommits>;
