import { type PointerEvent, useEffect, useId, useRef, useState } from "react";
import type { Commit, Density, Points } from "../api/bindings";
import { formatTime } from "../time/format";
import { useZone } from "../time/zone";
import type { Coverage, Span } from "../wal/coverage";
import { ticks } from "./axis";
import {
  AXIS,
  AxisLane,
  CoverageLane,
  DENSITY_HEIGHT,
  DensityLane,
  LABEL,
  LaneLabel,
  PointLane,
  ROW,
  SnapshotLane,
} from "./Lanes";
import { useWidth } from "./useWidth";
import { pan, position, timeAt, zoom } from "./viewport";

interface TimelineChartProps {
  points: Points;
  coverage: Coverage;
  density: Density | undefined;
  view: Span;
  bounds: Span;
  commit: Commit | null;
  valueText: string;
  onView: (view: Span) => void;
  onPick: (time: number) => void;
  onKey: (event: React.KeyboardEvent) => void;
}

const CLICK_SLACK = 4;

function CursorLine({
  x,
  height,
  commit,
  width,
}: {
  x: number;
  height: number;
  commit: Commit;
  width: number;
}) {
  const { zone } = useZone();
  if (x < -1 || x > width + 1) return null;
  const text = formatTime(commit.time, zone)?.slice(11) ?? "";
  const half = text.length * 3.5 + 8;
  const middle = Math.min(Math.max(x, half), width - half);
  return (
    <g>
      <line x1={x} x2={x} y1={AXIS - 4} y2={height} stroke="var(--accent)" strokeWidth="2" />
      <rect x={middle - half} y="2" width={half * 2} height="20" rx="4" fill="var(--accent)" />
      <path d={`M${x - 5} 21 h10 l-5 6 Z`} fill="var(--accent)" />
      <text x={middle} y="16" fontSize="12" fontWeight="600" textAnchor="middle" fill="var(--on-accent)">
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
export function TimelineChart(props: TimelineChartProps) {
  const { points, coverage, density, view, bounds, commit, valueText, onView, onPick, onKey } = props;
  const frame = useRef<HTMLDivElement>(null);
  const width = useWidth(frame);
  const { zone } = useZone();
  const [hover, setHover] = useState<number | null>(null);
  const drag = useRef<{ x: number; view: Span; moved: boolean } | null>(null);
  const id = useId();
  const patterns = { gap: `${id}gap`, tail: `${id}tail` };

  const x = position(view, width);
  const snapshotTop = AXIS + 8;
  const coverageTop = snapshotTop + LABEL + ROW + 12;
  const densityTop = coverageTop + LABEL + Math.max(1, coverage.timelines.length) * (ROW + 3) + 10;
  const pointTop = densityTop + LABEL + DENSITY_HEIGHT + 12;
  const height = pointTop + LABEL + ROW + 8;

  const latest = useRef({ view, bounds, width, onView });
  latest.current = { view, bounds, width, onView };
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    // React's own wheel listener is passive and could not keep the page from scrolling.
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const now = latest.current;
      const left = element.getBoundingClientRect().left;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        now.onView(pan(now.view, (event.deltaX || event.deltaY) / 1200, now.bounds));
        return;
      }
      const at = timeAt(now.view, now.width, event.clientX - left);
      now.onView(zoom(now.view, 1.0015 ** event.deltaY, at, now.bounds));
    };
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, []);

  const offset = (event: PointerEvent) => event.clientX - event.currentTarget.getBoundingClientRect().left;
  const lane = { x, width };
  return (
    <div
      ref={frame}
      role="slider"
      tabIndex={0}
      aria-label="Recovery point"
      aria-orientation="horizontal"
      aria-valuemin={coverage.extent.from}
      aria-valuemax={coverage.extent.to}
      aria-valuenow={commit ? Date.parse(commit.time) : coverage.extent.to}
      aria-valuetext={valueText}
      aria-describedby={`${id}help`}
      onKeyDown={onKey}
      onPointerDown={(event) => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture?.(event.pointerId);
        drag.current = { x: offset(event), view, moved: false };
      }}
      onPointerMove={(event) => {
        const at = offset(event);
        const held = drag.current;
        if (!held) {
          setHover(at);
          return;
        }
        if (Math.abs(at - held.x) > CLICK_SLACK) held.moved = true;
        if (held.moved) onView(pan(held.view, (held.x - at) / width, bounds));
      }}
      onPointerUp={(event) => {
        const held = drag.current;
        drag.current = null;
        if (held && !held.moved) onPick(timeAt(view, width, offset(event)));
      }}
      onPointerCancel={() => {
        drag.current = null;
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
        <AxisLane {...lane} top={0} ticks={ticks(view, width, zone)} height={height} />
        <LaneLabel top={snapshotTop} text="Snapshots" />
        <SnapshotLane {...lane} top={snapshotTop} snapshots={points.snapshots} />
        <LaneLabel
          top={coverageTop}
          text="WAL"
          note={width > 500 ? "red hatching: missing · grey hatching: not stored" : ""}
        />
        <CoverageLane {...lane} top={coverageTop} coverage={coverage} patterns={patterns} />
        <LaneLabel top={densityTop} text="Commits" />
        <DensityLane {...lane} top={densityTop} density={density} />
        <LaneLabel
          top={pointTop}
          text="Restore points"
          note={points.restore_points.length === 0 ? "none" : ""}
        />
        <PointLane {...lane} top={pointTop} points={points.restore_points} />
        {hover !== null && drag.current === null && (
          <HoverLine x={hover} time={timeAt(view, width, hover)} height={height} width={width} />
        )}
        {commit && (
          <CursorLine x={x(Date.parse(commit.time))} height={height} commit={commit} width={width} />
        )}
      </svg>
      <span id={`${id}help`} className="sr-only">
        Left and right arrow keys go to the previous and next commit, with Shift by ten. Plus, minus and 0
        zoom. Home and End go to the oldest and newest commit.
      </span>
    </div>
  );
}
