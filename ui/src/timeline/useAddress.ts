import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { writeSpan } from "../shell/links";
import type { Span } from "../wal/coverage";
import type { CommitCursor } from "./useCommits";
import { useSettled } from "./useSettled";

/** Browsers limit how often an address may be replaced. */
const ADDRESS_MS = 400;

/** Where the cursor stands, as the address says it. */
function addressOf({ commit, free }: Pick<CommitCursor, "commit" | "free">): { at?: string; xid?: string } {
  if (free !== null) return { at: new Date(free).toISOString() };
  if (commit === null) return {};
  const xid = commit.xid === "0" || commit.xid === "" ? undefined : commit.xid;
  return { at: commit.time, ...(xid ? { xid } : {}) };
}

function keyOf(at: string | undefined, xid: string | undefined): string {
  return `${at === undefined ? "" : Date.parse(at)} ${xid ?? ""}`;
}

/** Puts the cursor where the address says, or on the newest commit. */
function useStart(cursor: CommitCursor, written: { current: string | null }) {
  const search = useSearch({ from: "/c/$cluster/timeline" });
  const { selectTime, selectXid, selectNewest } = cursor;
  useEffect(() => {
    // An address that the cursor wrote itself must not pull the cursor back.
    if (written.current === keyOf(search.at, search.xid)) return;
    if (search.at && search.xid) void selectTime(Date.parse(search.at), search.xid);
    else if (search.at) void selectTime(Date.parse(search.at));
    else if (search.xid) void selectXid(search.xid);
    else void selectNewest();
  }, [search.at, search.xid, selectTime, selectXid, selectNewest, written]);
}

/** Address, cursor and zoom follow each other, so that a copied link leads back to them. */
export function useAddress(cursor: CommitCursor, view: Span | null): void {
  const written = useRef<string | null>(null);
  const navigate = useNavigate({ from: "/c/$cluster/timeline" });
  const place = addressOf(cursor);
  const wanted = JSON.stringify({
    ...place,
    ...(view === null ? {} : { zoom: writeSpan(view.to - view.from) }),
  });
  const settled = useSettled(wanted, ADDRESS_MS);
  useEffect(() => {
    const search = JSON.parse(settled) as { at?: string; xid?: string; zoom?: string };
    if (search.at === undefined) return;
    written.current = keyOf(search.at, search.xid);
    void navigate({
      search: (before) => ({ ...search, ...(before.tli ? { tli: before.tli } : {}) }),
      replace: true,
    });
  }, [settled, navigate]);
  useStart(cursor, written);
}
