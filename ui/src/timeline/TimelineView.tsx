import { useNavigate, useSearch } from "@tanstack/react-router";
import { ChevronLeft, ChevronRight, Maximize2, Table2, ZoomIn, ZoomOut } from "lucide-react";
import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import type { Commit, Points } from "../api/bindings";
import { useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Problem } from "../elements/Problem";
import { matchShortcut, pressOf, type ShortcutId } from "../shell/shortcuts";
import { formatDuration, formatTime } from "../time/format";
import { useZone } from "../time/zone";
import type { Coverage, Span } from "../wal/coverage";
import { OverviewStrip } from "./OverviewStrip";
import { StateLegend } from "./StateLegend";
import { TargetPanel } from "./TargetPanel";
import { TimelineChart } from "./TimelineChart";
import { TimelineTables } from "./TimelineTables";
import { useCommits } from "./useCommits";
import { fullView, pan, reveal, zoom } from "./viewport";

const SETTLE_MS = 150;
/** Browsers limit how often an address may be replaced. */
const ADDRESS_MS = 400;

function useSettled<T>(value: T, delay: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), delay);
    return () => clearTimeout(timer);
  }, [value, delay]);
  return settled;
}

function describe(commit: Commit | null, zone: "utc" | "local"): string {
  if (commit === null) return "no commit selected";
  const what = commit.kind === "restore_point" ? `restore point ${commit.name}` : `transaction ${commit.xid}`;
  return `${what} at ${formatTime(commit.time, zone, { digits: 6 })}`;
}

function addressOf(at: string | undefined, xid: string | undefined): string {
  return `${at === undefined ? "" : Date.parse(at)} ${xid ?? ""}`;
}

/** Keeps the address in step with the cursor, so that a copied link leads back to it. */
function useAddress(commit: Commit | null) {
  const written = useRef<string | null>(null);
  const navigate = useNavigate({ from: "/c/$cluster/timeline" });
  const settled = useSettled(commit, ADDRESS_MS);
  useEffect(() => {
    if (settled === null) return;
    const xid = settled.xid === "0" || settled.xid === "" ? undefined : settled.xid;
    written.current = addressOf(settled.time, xid);
    void navigate({ search: { at: settled.time, ...(xid ? { xid } : {}) }, replace: true });
  }, [settled, navigate]);
  return written;
}

interface TimelineViewProps {
  cluster: string;
  points: Points;
  coverage: Coverage;
}

export function TimelineView({ cluster, points, coverage }: TimelineViewProps) {
  const search = useSearch({ from: "/c/$cluster/timeline" });
  const { zone } = useZone();
  const { from: oldest, to: newest } = coverage.extent;
  const bounds = useMemo(
    () => fullView({ ...coverage, extent: { from: oldest, to: newest } }),
    [coverage, oldest, newest],
  );
  const [chosenView, setView] = useState<Span | null>(null);
  const [table, setTable] = useState(false);
  const cursor = useCommits(cluster);
  const { commit, page, selectTime, selectNewest } = cursor;
  const view = chosenView ?? bounds;

  const written = useAddress(commit);
  useEffect(() => {
    // An address that the cursor wrote itself must not pull the cursor back.
    if (written.current === addressOf(search.at, search.xid)) return;
    if (search.at) void selectTime(Date.parse(search.at), search.xid);
    else void selectNewest(search.xid);
  }, [search.at, search.xid, selectTime, selectNewest, written]);

  // The cursor is always in sight: whoever moves it also moves the picture.
  useEffect(() => {
    if (commit) setView((current) => (current ? reveal(current, Date.parse(commit.time), bounds) : current));
  }, [commit, bounds]);

  const asked = useSettled(view, SETTLE_MS);
  const density = useAnswer(
    "density",
    {
      cluster,
      from: new Date(Math.floor(asked.from)).toISOString(),
      to: new Date(Math.ceil(asked.to)).toISOString(),
      buckets: 200,
    },
    { keep: true, staleTime: 15_000 },
  );

  const middle = commit ? Date.parse(commit.time) : (view.from + view.to) / 2;
  const actions: Partial<Record<ShortcutId, () => void>> = {
    "previous-commit": () => void cursor.step(-1),
    "next-commit": () => void cursor.step(1),
    "previous-commits": () => void cursor.step(-10),
    "next-commits": () => void cursor.step(10),
    "zoom-in": () => setView(zoom(view, 0.5, middle, bounds)),
    "zoom-out": () => setView(zoom(view, 2, middle, bounds)),
    "zoom-fit": () => setView(null),
    oldest: () => void cursor.selectTime(coverage.extent.from),
    newest: () => void cursor.selectNewest(),
  };
  const onKey = (event: KeyboardEvent) => {
    const press = pressOf(event);
    const match = press === null ? null : matchShortcut(press, "timeline", null);
    if (match === null || !("id" in match)) return;
    event.preventDefault();
    actions[match.id]?.();
  };
  const run = (id: ShortcutId) => () => actions[id]?.();

  const commits = page?.commits ?? [];
  const index = commits.findIndex((each) => each.lsn === commit?.lsn);
  const around = index < 0 ? [] : commits.slice(Math.max(0, index - 12), index + 13);
  return (
    <div className="grid items-start gap-4 xl:grid-cols-[minmax(0,1fr)_23rem]">
      <section aria-label="Stored history" className="card min-w-0">
        <div className="flex flex-wrap items-center gap-1.5 border-b border-line px-3 py-2">
          <Button size="small" icon={ZoomIn} onClick={run("zoom-in")}>
            Zoom in
          </Button>
          <Button size="small" icon={ZoomOut} onClick={run("zoom-out")}>
            Zoom out
          </Button>
          <Button size="small" icon={Maximize2} onClick={run("zoom-fit")}>
            Everything
          </Button>
          <Button size="small" aria-label="Earlier" onClick={() => setView(pan(view, -0.5, bounds))}>
            <ChevronLeft aria-hidden className="size-4" />
          </Button>
          <Button size="small" aria-label="Later" onClick={() => setView(pan(view, 0.5, bounds))}>
            <ChevronRight aria-hidden className="size-4" />
          </Button>
          <span className="px-2 text-small text-ink-3 max-sm:hidden">
            {formatDuration((view.to - view.from) / 1000)} shown, in {zone === "utc" ? "UTC" : "local time"}
          </span>
          <Button
            size="small"
            icon={Table2}
            aria-pressed={table}
            onClick={() => setTable(!table)}
            className="ml-auto"
          >
            {table ? "Hide tables" : "Show as tables"}
          </Button>
        </div>
        <div className="px-3 pt-2">
          <TimelineChart
            points={points}
            coverage={coverage}
            density={density.data}
            view={view}
            bounds={bounds}
            commit={commit}
            valueText={describe(commit, zone)}
            onView={setView}
            onPick={(time) => void cursor.selectTime(time)}
            onKey={onKey}
          />
        </div>
        <div className="px-3 pt-1 pb-3">
          <OverviewStrip coverage={coverage} bounds={bounds} view={view} onView={setView} />
          <StateLegend points={points} />
        </div>
        <div className={table ? "border-t border-line px-4 py-4" : "sr-only"}>
          <TimelineTables
            points={points}
            gaps={coverage.gaps}
            commits={around}
            selected={commit}
            visible={table}
            onSelect={(lsn) => void cursor.selectLsn(lsn)}
          />
        </div>
      </section>
      <div className="space-y-4 xl:sticky xl:top-28">
        {(cursor.error ?? density.error) ? (
          <Problem error={cursor.error ?? density.error} title="The commits could not be read" />
        ) : null}
        {cursor.note && (
          <p role="status" className="rounded-lg border border-degraded/40 bg-degraded-soft px-4 py-2.5">
            {cursor.note}
          </p>
        )}
        {commit ? (
          <TargetPanel
            cluster={cluster}
            commit={commit}
            previous={commits[index - 1] ?? null}
            next={commits[index + 1] ?? null}
            onStep={(by) => void cursor.step(by)}
          />
        ) : (
          !cursor.error && (
            <p className="card px-4 py-3 text-ink-2">
              {page ? "No commit is stored yet; only the snapshots can be restored." : "Reading the commits…"}
            </p>
          )
        )}
      </div>
    </div>
  );
}
