import { useSearch } from "@tanstack/react-router";
import {
  type KeyboardEvent,
  useCallback,
  useDeferredValue,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import type { Commit, Markers, Timeline } from "../api/bindings";
import { Notice } from "../elements/Notice";
import { Problem } from "../elements/Problem";
import { readSpan } from "../shell/links";
import { matchShortcut, pressOf, type ShortcutId } from "../shell/shortcuts";
import { formatTime, type Zone } from "../time/format";
import { useZone } from "../time/zone";
import { commitName } from "../wal/commit";
import { type Coverage, forksOf, type Span } from "../wal/coverage";
import { allEvents, eventsNote, neighbour, type TableEvent } from "../wal/events";
import { FindPanel, type Search } from "./FindPanel";
import type { Wanted } from "./goto";
import { OverviewStrip } from "./OverviewStrip";
import { StateLegend } from "./StateLegend";
import { type Side, TargetPanel } from "./TargetPanel";
import { TimelineChart } from "./TimelineChart";
import { TimelineTables } from "./TimelineTables";
import { TimelineToolbar } from "./TimelineToolbar";
import { UnknownEvents } from "./UnknownEvents";
import { useAddress } from "./useAddress";
import { type CommitCursor, isStop, useCommits } from "./useCommits";
import { useRested } from "./useRested";
import { useSettled } from "./useSettled";
import { useMarkers, useTimeline } from "./useTimeline";
import { around, fullView, pan, reveal, zoom } from "./viewport";

const SETTLE_MS = 220;
/** Sending a request takes milliseconds of the page's thread: two are not sent in one frame. */
const APART_MS = 40;
/** How long the picture must have been still before its tables, while nobody sees them, follow it. */
const TABLES_MS = 600;
/** What is shown of the newest commits when they are asked for. */
const NOW_SPAN = 15 * 60_000;
/** What is shown around an event that is gone to. */
const EVENT_SPAN = 10 * 60_000;

function describe({ commit, free }: Pick<CommitCursor, "commit" | "free">, zone: Zone): string {
  if (free !== null) return `no commit, at ${formatTime(new Date(free).toISOString(), zone)}`;
  if (commit === null) return "no commit selected";
  return `${commitName(commit)} at ${formatTime(commit.time, zone, { digits: 6 })}`;
}

/** Snapshots and restore points of several pictures, as places to step to; oldest first. */
function placesOf(...timelines: readonly Timeline[]): { time: number; lsn: string | null }[] {
  const places = timelines.flatMap((timeline) => [
    ...timeline.snapshots.map((group) => ({ time: Date.parse(group.span.to), lsn: null })),
    ...timeline.restore_points.map((group) => ({
      time: Date.parse(group.span.to),
      lsn: group.point?.lsn ?? null,
    })),
  ]);
  return places.sort((a, b) => a.time - b.time);
}

interface TimelineViewProps {
  cluster: string;
  /** The timeline whose commits are given; none for the newest. */
  way: number | null;
  all: Timeline;
  coverage: Coverage;
}

const NO_COMMITS: readonly Commit[] = [];
const NO_POINTS: readonly NonNullable<Timeline["restore_points"][number]["point"]>[] = [];
const NO_UNKNOWN: Markers["unknown"] = [];

export function TimelineView({ cluster, way, all, coverage }: TimelineViewProps) {
  const search = useSearch({ from: "/c/$cluster/timeline" });
  const { zone } = useZone();
  const { from: oldest, to: newest } = coverage.extent;
  const bounds = useMemo(() => fullView({ from: oldest, to: newest }), [oldest, newest]);
  const [chosenView, setView] = useState<Span | null>(() => {
    const length = search.zoom === undefined ? null : readSpan(search.zoom);
    if (length === null) return null;
    return around(search.at ? Date.parse(search.at) : newest, length, bounds);
  });
  const [table, setTable] = useState(false);
  const [side, setSide] = useState<Side>("inclusive");
  const [preview, setPreview] = useState(false);
  const [finding, setFinding] = useState<Search | null>(null);
  const cursor = useCommits(cluster, way);
  const { commit, free, page, step, selectTime, selectFree, selectNewest, selectXid, selectLsn } = cursor;
  const view = chosenView ?? bounds;
  useAddress(cursor, chosenView);

  const at = free ?? (commit ? Date.parse(commit.time) : null);
  // The cursor is always in sight: whoever moves it also moves the picture.
  useEffect(() => {
    if (at !== null) setView((current) => (current ? reveal(current, at, bounds) : current));
  }, [at, bounds]);

  const asked = useSettled(chosenView, SETTLE_MS);
  const drawn = useTimeline(cluster, asked, way);
  const whole = useMarkers(cluster, null);
  const markers = useMarkers(cluster, useSettled(asked, APART_MS));
  // What has arrived is drawn between the frames.
  const timeline = useDeferredValue(drawn.data ?? all);
  const known = useDeferredValue(markers.data);
  // The tables are many elements: the picture does not wait for them, and a hand that moves it does not
  // meet them on its way.
  const { rested, onMove } = useRested(timeline, TABLES_MS);
  const told = useDeferredValue<Timeline | null>(table ? timeline : rested, null);
  const forks = useMemo(() => forksOf(all.branches), [all.branches]);
  const events = useMemo(() => allEvents([known], finding?.found?.events ?? []), [known, finding]);
  const note = eventsNote(known, events, markers.isError);

  const go = useCallback(
    (wanted: Exclude<Wanted, { kind: "none" }>) => {
      if (wanted.kind === "xid") void selectXid(wanted.xid);
      else if (wanted.kind === "time") void selectTime(wanted.time);
      else void selectLsn(wanted.lsn);
    },
    [selectXid, selectTime, selectLsn],
  );
  const onPick = useCallback(
    (time: number, off: boolean) => void (off ? selectFree(time) : selectTime(time)),
    [selectFree, selectTime],
  );
  const onSelect = useCallback((lsn: string) => void selectLsn(lsn), [selectLsn]);
  const onStep = useCallback((by: number) => void step(by), [step]);
  const onUse = useCallback((target: string) => goToTarget(target, go), [go]);
  const onPreview = useCallback(() => setPreview(true), []);
  const onEvent = useCallback(
    (event: TableEvent) => {
      setSide("exclusive");
      void selectLsn(event.commitLsn);
      setView((current) => current ?? around(event.time, EVENT_SPAN, bounds));
    },
    [selectLsn, bounds],
  );
  const middle = at ?? (view.from + view.to) / 2;
  const toPlace = (by: 1 | -1) => () => {
    // What lies beyond what is drawn is stepped to as well.
    const places = placesOf(all, timeline);
    const found =
      by > 0 ? places.find((each) => each.time > middle) : places.findLast((each) => each.time < middle);
    if (!found) return;
    if (found.lsn) void selectLsn(found.lsn);
    else void selectFree(found.time);
  };
  const toEvent = (by: 1 | -1) => () => {
    // What was rolled back is drawn, but nobody goes back to before it.
    const found = finding?.found?.events ?? [];
    const stops = allEvents([whole.data, known], found).filter((event) => !event.rolledBack);
    const next = neighbour(stops, middle, by);
    if (next) onEvent(next);
  };
  const actions: Partial<Record<ShortcutId, () => void>> = {
    "previous-commit": () => void step(-1),
    "next-commit": () => void step(1),
    "previous-commits": () => void step(-10),
    "next-commits": () => void step(10),
    "second-back": () => void selectFree(middle - 1000),
    "second-on": () => void selectFree(middle + 1000),
    "previous-point": toPlace(-1),
    "next-point": toPlace(1),
    "previous-event": toEvent(-1),
    "next-event": toEvent(1),
    "zoom-in": () => setView((current) => zoom(current ?? bounds, 0.5, middle, bounds)),
    "zoom-out": () => setView((current) => zoom(current ?? bounds, 2, middle, bounds)),
    "zoom-fit": () => setView(null),
    oldest: () => void selectTime(coverage.extent.from),
    newest: () => void selectNewest(),
    now: () => {
      void selectNewest();
      setView(around(newest, NOW_SPAN, bounds));
    },
    preview: () => setPreview(true),
  };
  // What is pressed always finds the newest of them; what is drawn need not be drawn anew for that.
  const newestActions = useRef(actions);
  newestActions.current = actions;
  const onRun = useCallback((id: ShortcutId) => newestActions.current[id]?.(), []);
  const onPan = useCallback(
    (part: number) => setView((current) => pan(current ?? bounds, part, bounds)),
    [bounds],
  );
  const onKey = useCallback(
    (event: KeyboardEvent) => {
      const press = pressOf(event);
      const match = press === null ? null : matchShortcut(press, "timeline", null);
      if (match === null || !("id" in match)) return;
      event.preventDefault();
      onRun(match.id);
    },
    [onRun],
  );

  const commits = page?.commits ?? NO_COMMITS;
  const index = commits.findIndex((each) => each.lsn === commit?.lsn);
  const beside = useMemo(
    () => (index < 0 ? NO_COMMITS : commits.slice(Math.max(0, index - 12), index + 13)),
    [commits, index],
  );
  const [previous, next] = neighboursOf(commits, index, free);
  const cursorTime = free === null ? commit?.time : new Date(free).toISOString();
  const mark = useMemo(
    () =>
      at === null || cursorTime === undefined
        ? null
        : { time: at, text: formatTime(cursorTime, zone)?.slice(11) ?? "", free: free !== null },
    [at, cursorTime, zone, free],
  );
  const points = useMemo(() => {
    const named = timeline.restore_points.flatMap((group) => (group.point ? [group.point] : []));
    // Always the same nothing: what does not change need not be drawn anew.
    return named.length === 0 ? NO_POINTS : named;
  }, [timeline.restore_points]);
  return (
    <div className="space-y-4">
      <div className="grid grid-cols-1 items-start gap-4 xl:grid-cols-[minmax(0,1fr)_23rem]">
        <section aria-label="Stored history" className="card min-w-0">
          <TimelineToolbar
            all={all}
            way={way}
            shown={view.to - view.from}
            points={points}
            table={table}
            onTable={setTable}
            onRun={onRun}
            onPan={onPan}
            onGo={go}
          />
          <div className="px-3 pt-2">
            <TimelineChart
              timeline={timeline}
              coverage={coverage}
              forks={forks}
              events={events}
              eventsNote={note}
              markers={known}
              view={view}
              bounds={bounds}
              cursor={mark}
              valueText={describe(cursor, zone)}
              onView={setView}
              onPick={onPick}
              onKey={onKey}
              onMove={onMove}
            />
          </div>
          <div className="px-3 pt-1 pb-3">
            <OverviewStrip coverage={coverage} bounds={bounds} view={view} onView={setView} />
            <StateLegend snapshots={timeline.snapshots} />
            <UnknownEvents cluster={cluster} markers={markers} />
          </div>
          <div className={table ? "border-t border-line px-4 py-4" : "sr-only"}>
            {told && (
              <TimelineTables
                timeline={told}
                events={events}
                eventsNote={note}
                unknown={known?.unknown ?? NO_UNKNOWN}
                gaps={coverage.gaps}
                commits={beside}
                selected={commit}
                visible={table}
                onSelect={onSelect}
              />
            )}
          </div>
        </section>
        <div className="space-y-4 xl:sticky xl:top-28">
          {(cursor.error ?? drawn.error) ? (
            <Problem error={cursor.error ?? drawn.error} title="The commits could not be read" />
          ) : null}
          {cursor.note && <Notice status>{cursor.note}</Notice>}
          {commit ? (
            <TargetPanel
              cluster={cluster}
              commit={commit}
              free={free}
              previous={previous}
              next={next}
              timeline={way}
              side={side}
              onSide={setSide}
              preview={preview}
              onPreview={onPreview}
              onStep={onStep}
              onUse={onUse}
            />
          ) : (
            !cursor.error && (
              <p className="card px-4 py-3 text-ink-2">
                {page
                  ? "No commit is stored yet; only the snapshots can be restored."
                  : "Reading the commits…"}
              </p>
            )
          )}
        </div>
      </div>
      <FindPanel cluster={cluster} view={view} search={finding} onSearch={setFinding} onSelect={onEvent} />
    </div>
  );
}

/** A target that the engine named, as a place to go to. */
function goToTarget(target: string, go: (wanted: Exclude<Wanted, { kind: "none" }>) => void): void {
  const [kind, value] = [target.slice(0, target.indexOf(":")), target.slice(target.indexOf(":") + 1)];
  if (kind === "xid") go({ kind: "xid", xid: value });
  else if (kind === "lsn") go({ kind: "lsn", lsn: value });
  else if (kind === "time") go({ kind: "time", time: Date.parse(value) });
}

/** The commits on either side of the cursor, in WAL order. */
function neighboursOf(
  commits: readonly Commit[],
  index: number,
  free: number | null,
): [Commit | null, Commit | null] {
  if (free === null) return [commits[index - 1] ?? null, commits[index + 1] ?? null];
  const stops = commits.filter(isStop);
  const after = stops.findIndex((each) => Date.parse(each.time) > free);
  const next = after < 0 ? stops.length : after;
  return [stops[next - 1] ?? null, stops[next] ?? null];
}
