import { memo, type PointerEvent, useEffect, useId, useMemo, useRef, useState } from "react";
import type { Markers, Timeline } from "../api/bindings";
import { formatTime } from "../time/format";
import { useZone } from "../time/zone";
import type { Coverage, Fork, Span } from "../wal/coverage";
import type { TableEvent } from "../wal/events";
import {
  AXIS,
  AxisLane,
  BaseLine,
  BRANCH,
  BranchNames,
  BranchRows,
  CoverageLane,
  CURSOR,
  DENSITY_HEIGHT,
  DensityLane,
  EventLane,
  LABEL,
  LaneLabel,
  PointLane,
  ROW,
  SNAPSHOT_ROW,
  SnapshotLane,
} from "./Lanes";
import { BESIDE } from "./request";
import { useGlide } from "./useGlide";
import { useInTurn } from "./useInTurn";
import { UNMEASURED, useWidth } from "./useWidth";
import { pan, position, timeAt, zoom } from "./viewport";

interface TimelineChartProps {
  timeline: Timeline;
  coverage: Coverage;
  forks: readonly Fork[];
  /** What is known to have happened to tables, and how much that is, in words. */
  events: readonly TableEvent[];
  eventsNote: string;
  markers: Markers | undefined;
  view: Span;
  bounds: Span;
  /** Where the cursor stands; null while nothing is selected. */
  cursor: { time: number; text: string; free: boolean } | null;
  valueText: string;
  onView: (view: Span) => void;
  /** `free` asks for this very time instead of the nearest commit. */
  onPick: (time: number, free: boolean) => void;
  onKey: (event: React.KeyboardEvent) => void;
  /** Told while a hand or a wheel moves the picture. */
  onMove: () => void;
}

const CLICK_SLACK = 4;

/** What is drawn, from the back to the front. */
const LANES = ["axis", "snapshots", "coverage", "density", "events", "points", "cursor"] as const;
type LaneName = (typeof LANES)[number];

function CursorLine({
  x,
  height,
  text,
  width,
  free,
}: {
  x: number;
  height: number;
  text: string;
  width: number;
  free: boolean;
}) {
  if (x < -width * BESIDE || x > width * (1 + BESIDE)) return null;
  const half = text.length * 3.5 + 8;
  // While the picture rests the name stays inside of it.
  const middle = x < 0 || x > width ? x : Math.min(Math.max(x, half), width - half);
  return (
    <g>
      <line
        x1={x}
        x2={x}
        y1={CURSOR + 20}
        y2={height}
        stroke="var(--accent)"
        strokeWidth="2"
        strokeDasharray={free ? "5 4" : undefined}
      />
      <rect x={middle - half} y={CURSOR} width={half * 2} height="20" rx="4" fill="var(--accent)" />
      <path d={`M${x - 5} ${CURSOR + 19} h10 l-5 6 Z`} fill="var(--accent)" />
      <text
        x={middle}
        y={CURSOR + 14}
        fontSize="12"
        fontWeight="600"
        textAnchor="middle"
        fill="var(--on-accent)"
      >
        {text}
      </text>
    </g>
  );
}

function HoverLine({ x, time, height, width }: { x: number; time: number; height: number; width: number }) {
  const { zone } = useZone();
  const text = formatTime(new Date(time).toISOString(), zone)?.slice(11) ?? "";
  const right = x > width - 130;
  return (
    <g pointerEvents="none">
      <line x1={x} x2={x} y1={AXIS} y2={height} stroke="var(--ink-3)" strokeDasharray="3 3" />
      <text
        x={x + (right ? -6 : 6)}
        y={height - 4}
        fontSize="11.5"
        textAnchor={right ? "end" : "start"}
        fill="var(--ink-2)"
        stroke="var(--surface)"
        strokeWidth="3"
        paintOrder="stroke"
      >
        {text}
      </text>
    </g>
  );
}

/** The picture. Its table twin says the same; the cursor on it moves from commit to commit. */
export const TimelineChart = memo(function TimelineChart(props: TimelineChartProps) {
  const { timeline, coverage, forks, events, eventsNote, markers, view, bounds } = props;
  const { cursor, valueText, onView, onPick, onKey, onMove } = props;
  const frame = useRef<HTMLDivElement>(null);
  const picture = useRef<SVGGElement>(null);
  // Drawn once the width is known, not for a guess first: laying it out is most of the first paint.
  const measured = useWidth(frame);
  const width = measured ?? UNMEASURED;
  const { zone } = useZone();
  const [hover, setHover] = useState<number | null>(null);
  const drag = useRef<{ x: number; view: Span; moved: boolean } | null>(null);
  const newest = useMemo(
    () => ({ view, width, timeline, coverage, forks, events, markers }),
    [view, width, timeline, coverage, forks, events, markers],
  );
  const drawn = useInTurn(newest, LANES.length);
  const { glideTo, settle, where } = useGlide(picture, { view, drawn, width, onView, onMove });
  const id = useId();
  const patterns = useMemo(() => ({ gap: `${id}gap`, tail: `${id}tail` }), [id]);

  const rows = Math.max(1, coverage.timelines.length);
  const snapshotTop = AXIS + 8;
  const coverageTop = snapshotTop + LABEL + SNAPSHOT_ROW + 4;
  const densityTop = coverageTop + LABEL + rows * BRANCH + 8;
  const eventTop = densityTop + LABEL + DENSITY_HEIGHT + 12;
  const pointTop = eventTop + LABEL + ROW + 8;
  const height = pointTop + LABEL + ROW + 8;

  const latest = useRef({ view, bounds, width, onView });
  latest.current = { view, bounds, width, onView };
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    let turned = 0;
    let turning = 0;
    let under = 0;
    // React's own wheel listener is passive and could not keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      onMove();
      const now = latest.current;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        glideTo(pan(where(), (event.deltaX || event.deltaY) / 1200, now.bounds));
        return;
      }
      turned += event.deltaY;
      under = event.clientX - element.getBoundingClientRect().left;
      // A wheel turns more often than a screen is drawn.
      turning ||= requestAnimationFrame(() => {
        turning = 0;
        const { view: seen, width: room, bounds: all } = latest.current;
        const by = 1.0015 ** turned;
        turned = 0;
        latest.current.onView(zoom(seen, by, timeAt(seen, room, under), all));
      });
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => {
      cancelAnimationFrame(turning);
      element.removeEventListener("wheel", onWheel);
    };
  }, [glideTo, where, onMove]);

  const offset = (event: PointerEvent) => event.clientX - event.currentTarget.getBoundingClientRect().left;
  const laneOf = (lane: LaneName | undefined, picture: typeof newest) => {
    const place = { view: picture.view, width: picture.width };
    switch (lane) {
      case "axis":
        return <AxisLane {...place} top={0} zone={zone} height={height} />;
      case "snapshots":
        return <SnapshotLane {...place} top={snapshotTop} snapshots={picture.timeline.snapshots} />;
      case "coverage":
        return (
          <CoverageLane
            {...place}
            top={coverageTop}
            coverage={picture.coverage}
            forks={picture.forks}
            patterns={patterns}
          />
        );
      case "density":
        return <DensityLane {...place} top={densityTop} density={picture.timeline.density} />;
      case "events":
        return (
          <EventLane
            {...place}
            top={eventTop}
            events={picture.events}
            markers={picture.markers}
            pattern={patterns.tail}
          />
        );
      case "points":
        return <PointLane {...place} top={pointTop} points={picture.timeline.restore_points} />;
      case "cursor":
        // Where the cursor stands is never old.
        return (
          cursor && (
            <CursorLine
              x={position(picture.view, picture.width)(cursor.time)}
              height={height}
              text={cursor.text}
              width={picture.width}
              free={cursor.free}
            />
          )
        );
    }
  };
  const missing = timeline.branches.filter((each) => each.ancestry_missing).map((each) => each.timeline);
  return (
    <div
      ref={frame}
      role="slider"
      tabIndex={0}
      aria-label="Recovery point"
      aria-orientation="horizontal"
      aria-valuemin={coverage.extent.from}
      aria-valuemax={coverage.extent.to}
      aria-valuenow={cursor?.time ?? coverage.extent.to}
      aria-valuetext={valueText}
      aria-describedby={`${id}help`}
      onKeyDown={onKey}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture?.(event.pointerId);
        drag.current = { x: offset(event), view: where(), moved: false };
        setHover(null);
      }}
      onPointerMove={(event) => {
        const at = offset(event);
        const held = drag.current;
        if (!held) {
          setHover(at);
          return;
        }
        if (Math.abs(at - held.x) > CLICK_SLACK) held.moved = true;
        if (held.moved) glideTo(pan(held.view, (held.x - at) / width, bounds));
      }}
      onPointerUp={(event) => {
        const held = drag.current;
        drag.current = null;
        if (held?.moved) settle();
        else if (held) onPick(timeAt(where(), width, offset(event)), event.altKey);
      }}
      onPointerCancel={() => {
        drag.current = null;
        settle();
      }}
      onPointerLeave={() => setHover(null)}
      className="relative cursor-crosshair touch-pan-y overflow-hidden select-none"
    >
      <svg
        width={width}
        height={height}
        viewBox={`0 0 ${width} ${height}`}
        aria-hidden="true"
        className="block"
      >
        {measured !== null && (
          <>
            <defs>
              <pattern
                id={patterns.gap}
                width="7"
                height="7"
                patternUnits="userSpaceOnUse"
                patternTransform="rotate(45)"
              >
                <rect width="7" height="7" fill="var(--broken-soft)" />
                <rect width="2.5" height="7" fill="var(--broken)" />
              </pattern>
              <pattern
                id={patterns.tail}
                width="6"
                height="6"
                patternUnits="userSpaceOnUse"
                patternTransform="rotate(-45)"
              >
                <rect width="1.2" height="6" fill="var(--line-strong)" />
              </pattern>
            </defs>
            <BranchRows width={width} top={coverageTop} timelines={coverage.timelines} missing={missing} />
            <BaseLine y={AXIS - 0.5} width={width} strong />
            <BaseLine y={snapshotTop + LABEL + 10} width={width} />
            <BaseLine y={densityTop + LABEL + DENSITY_HEIGHT + 0.5} width={width} strong />
            <BaseLine y={eventTop + LABEL + ROW} width={width} />
            <BaseLine y={pointTop + LABEL + ROW} width={width} />
            <g ref={picture} data-picture="">
              {drawn.map((each, lane) => (
                <g key={LANES[lane]}>{laneOf(LANES[lane], each)}</g>
              ))}
            </g>
            <BranchNames top={coverageTop} timelines={coverage.timelines} missing={missing} />
            <LaneLabel
              top={snapshotTop}
              text="Snapshots"
              note={timeline.snapshots_total === 0 ? "none" : ""}
            />
            <LaneLabel
              top={coverageTop}
              text="WAL"
              note={width > 500 ? "red hatching: missing · grey hatching: not stored" : ""}
            />
            <LaneLabel top={densityTop} text="Commits" />
            <LaneLabel top={eventTop} text="Destructive events" note={eventsNote} />
            <LaneLabel
              top={pointTop}
              text="Restore points"
              note={timeline.restore_points_total === 0 ? "none" : ""}
            />
            {hover !== null && (
              <HoverLine x={hover} time={timeAt(view, width, hover)} height={height} width={width} />
            )}
          </>
        )}
      </svg>
      <span id={`${id}help`} className="sr-only">
        Left and right arrow keys go to the previous and next commit, with Shift by ten, with Alt by a second
        off the commits. Brackets go to the previous and next snapshot or restore point, braces to the
        destructive events that are drawn. Plus, minus and 0 zoom. Home, End and N go to the oldest and newest
        commit. P previews what a restore to here would lose.
      </span>
    </div>
  );
});
