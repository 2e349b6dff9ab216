import { memo } from "react";
import type { Density, Markers, RestorePointGroup, SnapshotGroup } from "../api/bindings";
import type { RecoverabilityState } from "../elements/StateBadge";
import type { Zone } from "../time/format";
import { GAP_CAUSES } from "../wal/causes";
import type { Coverage, Fork, Span } from "../wal/coverage";
import { EVENT_WORDS, isLoss, type TableEvent, unknownSpan } from "../wal/events";
import { ticks } from "./axis";
import { Glyphs } from "./Glyphs";
import { type NameSide, placeNames } from "./names";
import { BESIDE } from "./request";
import { position } from "./viewport";

export interface Lane {
  view: Span;
  width: number;
  top: number;
}

/** Whether something from `from` to `to` lies in what is drawn: what is shown, and as much on either side. */
function drawn(width: number, from: number, to: number): boolean {
  return to > -width * BESIDE - 20 && from < width * (1 + BESIDE) + 20;
}

/** What lies far outside is cut, since browsers draw shapes of enormous sizes wrongly. */
function cut(width: number, from: number, to: number): { left: number; right: number } {
  return { left: Math.max(from, -width * 2), right: Math.min(to, width * 3) };
}

/** The cursor's name has a row of its own, beneath the names of the axis. */
export const CURSOR = 22;
export const AXIS = CURSOR + 28;
export const LABEL = 20;
export const ROW = 20;
export const SNAPSHOT_ROW = 34;

export function LaneLabel({ top, text, note }: { top: number; text: string; note?: string }) {
  return (
    <text
      x="0"
      y={top + 12}
      fontSize="11.5"
      fontWeight="600"
      fill="var(--ink-2)"
      stroke="var(--surface)"
      strokeWidth="3"
      paintOrder="stroke"
    >
      {text}
      {note && (
        <tspan dx="8" fontWeight="400" fill="var(--ink-3)">
          {note}
        </tspan>
      )}
    </text>
  );
}

/** Room that a label of the axis needs, and half of its width, in pixels. */
const LABEL_ROOM = 72;
const LABEL_HALF = 24;

export const AxisLane = memo(function AxisLane({
  view,
  width,
  zone,
  height,
}: Lane & { zone: Zone; height: number }) {
  const x = position(view, width);
  const beside = (view.to - view.from) * BESIDE;
  const wide = { from: view.from - beside, to: view.to + beside };
  const places = ticks(wide, width * (1 + 2 * BESIDE), zone).map((tick) => ({
    tick,
    at: Math.round(x(tick.time)) + 0.5,
  }));
  let free = Number.NEGATIVE_INFINITY;
  const named = places.filter(({ at }) => {
    // At the edges a name would be cut in half.
    if (at < free || Math.min(Math.abs(at), Math.abs(at - width)) < LABEL_HALF) return false;
    free = at + LABEL_ROOM;
    return true;
  });
  return (
    <g>
      <path d={places.map(({ at }) => `M${at} ${AXIS - 6}V${height}`).join("")} stroke="var(--line)" />
      {named.map(({ tick, at }) => (
        <text
          key={tick.time}
          x={at}
          y={14}
          fontSize="11.5"
          textAnchor="middle"
          fill={tick.strong ? "var(--ink)" : "var(--ink-2)"}
          fontWeight={tick.strong ? 600 : 400}
        >
          {tick.label}
        </text>
      ))}
    </g>
  );
});

/** A line under a lane, which does not move with the picture. */
export function BaseLine({ y, width, strong }: { y: number; width: number; strong?: boolean }) {
  return <line x1="0" x2={width} y1={y} y2={y} stroke={strong ? "var(--line-strong)" : "var(--line)"} />;
}

/** Room for a shape, and for a count beneath it, in pixels. */
const GLYPH_ROOM = 19;
const COUNT_ROOM = 38;

/** The round end of a bar, in pixels. */
const CAP = 3;

/** What is drawn of the snapshots of one state. */
interface Drawn {
  /** Lines from when the first began to when the last ended. */
  bars: string;
  /** Middles of the shapes. */
  places: number[];
}

/** Snapshots; those that lie too close together stand as the worst of them, with their number. */
export const SnapshotLane = memo(function SnapshotLane({
  view,
  width,
  top,
  snapshots,
}: Lane & { snapshots: readonly SnapshotGroup[] }) {
  const x = position(view, width);
  const middle = top + LABEL + 10;
  let glyphs = Number.NEGATIVE_INFINITY;
  let counts = Number.NEGATIVE_INFINITY;
  const states = new Map<RecoverabilityState, Drawn>();
  const numbers: { at: number; count: number }[] = [];
  for (const group of snapshots) {
    const one = group.snapshot;
    const from = x(Date.parse(one?.started_at ?? group.span.from));
    const to = x(Date.parse(group.span.to));
    if (!drawn(width, from, to)) continue;
    const state = group.states[0]?.[0] ?? "unknown";
    const of = states.get(state) ?? { bars: "", places: [] };
    states.set(state, of);
    const at = one ? to : (from + to) / 2;
    const shaped = at - glyphs >= GLYPH_ROOM;
    if (to - from > 4 || !shaped) {
      const bar = cut(width, from, to);
      const end = Math.max(bar.left + CAP, bar.right - CAP);
      of.bars += `M${(bar.left + CAP).toFixed(1)} ${middle}H${end.toFixed(1)}`;
    }
    if (!shaped) continue;
    glyphs = at;
    of.places.push(at);
    if (group.count > 1 && at - counts >= COUNT_ROOM) {
      counts = at;
      numbers.push({ at, count: group.count });
    }
  }
  return (
    <g>
      {[...states].map(([state, { bars }]) => (
        <path
          key={state}
          d={bars}
          stroke={`var(--${state})`}
          strokeWidth={CAP * 2}
          strokeLinecap="round"
          opacity="0.45"
        />
      ))}
      {[...states].map(([state, { places }]) => (
        <Glyphs key={state} state={state} places={places} y={middle} />
      ))}
      {numbers.map(({ at, count }, place) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: whichever stands there, the same elements say it anew
        <text key={place} x={at} y={middle + 20} fontSize="11" textAnchor="middle" fill="var(--ink-2)">
          {count > 9999 ? `${Math.round(count / 1000)}k` : count}
        </text>
      ))}
    </g>
  );
});

interface CoverageLaneProps extends Lane {
  coverage: Coverage;
  forks: readonly Fork[];
  patterns: { gap: string; tail: string };
}

/** Height of one timeline's row, with the room between two. */
export const BRANCH = ROW + 5;

/** WAL by timeline, with the place where each left its parent. */
export const CoverageLane = memo(function CoverageLane({
  view,
  width,
  top,
  coverage,
  forks,
  patterns,
}: CoverageLaneProps) {
  const x = position(view, width);
  const tailFrom = x(coverage.extent.to);
  const newest = coverage.timelines.length - 1;
  const rowOf = (timeline: number) => top + LABEL + coverage.timelines.indexOf(timeline) * BRANCH;
  return (
    <g>
      {coverage.timelines.map((timeline, row) => {
        const y = rowOf(timeline);
        return (
          <g key={timeline}>
            {coverage.windows
              .filter((span) => span.timeline === timeline && drawn(width, x(span.from), x(span.to)))
              .map((span) => {
                const bar = cut(width, x(span.from), x(span.to));
                return (
                  <rect
                    key={span.from}
                    x={bar.left}
                    y={y}
                    width={Math.max(2, bar.right - bar.left)}
                    height={ROW}
                    rx="2"
                    fill="var(--chart)"
                  />
                );
              })}
            {coverage.gaps
              .filter((span) => span.timeline === timeline && drawn(width, x(span.from), x(span.to)))
              .map((span) => {
                const bar = cut(width, x(span.from), x(span.to));
                return (
                  <rect
                    key={span.gap.from_lsn}
                    x={bar.left}
                    y={y - 1}
                    width={Math.max(5, bar.right - bar.left)}
                    height={ROW + 2}
                    fill={`url(#${patterns.gap})`}
                    stroke="var(--broken)"
                  >
                    <title>{`${GAP_CAUSES[span.gap.cause]}: ${span.gap.explanation}`}</title>
                  </rect>
                );
              })}
            {row === newest && tailFrom < width * (1 + BESIDE) && (
              <rect
                x={Math.max(tailFrom, -width * 2)}
                y={y}
                width={width * 3 - Math.max(tailFrom, -width * 2)}
                height={ROW}
                fill={`url(#${patterns.tail})`}
              />
            )}
          </g>
        );
      })}
      {forks.map((fork) => {
        if (fork.parent === null || fork.at === null) return null;
        const at = x(fork.at);
        if (!drawn(width, at, at) || !coverage.timelines.includes(fork.parent)) return null;
        const from = rowOf(fork.parent) + ROW;
        const to = rowOf(fork.timeline) + ROW / 2;
        return (
          <g key={fork.timeline} fill="none" stroke="var(--ink)">
            <path d={`M${at} ${from - ROW / 2} V${to - 4} q0 4 4 4 h8`} strokeWidth="2" />
            <path d={`M${at + 9} ${to - 4} l4 4 l-4 4`} strokeWidth="2" />
            <circle cx={at} cy={from - ROW / 2} r="3.5" fill="var(--surface)" strokeWidth="2" />
          </g>
        );
      })}
    </g>
  );
});

/** The grounds and names of the timelines' rows, which do not move with the picture. */
export function BranchRows({
  width,
  top,
  timelines,
  missing,
}: {
  width: number;
  top: number;
  timelines: readonly number[];
  missing: readonly number[];
}) {
  return timelines.map((timeline, row) => (
    <rect
      key={timeline}
      x="0"
      y={top + LABEL + row * BRANCH}
      width={width}
      height={ROW}
      rx="3"
      fill="var(--sunken)"
      stroke={missing.includes(timeline) ? "var(--broken)" : "none"}
    />
  ));
}

export function BranchNames({
  top,
  timelines,
  missing,
}: {
  top: number;
  timelines: readonly number[];
  missing: readonly number[];
}) {
  if (timelines.length < 2) return null;
  return timelines.map((timeline, row) => {
    const name = `TLI ${timeline}${missing.includes(timeline) ? ", ancestry missing" : ""}`;
    const y = top + LABEL + row * BRANCH;
    return (
      <g key={timeline}>
        <rect x="2" y={y + 2} width={name.length * 6.2 + 10} height={ROW - 4} rx="3" fill="var(--surface)" />
        <text x="7" y={y + 14} fontSize="11" fontWeight="600" fill="var(--ink)">
          {name}
        </text>
      </g>
    );
  });
}

export const DENSITY_HEIGHT = 84;

interface Buckets {
  /** Milliseconds of the first bucket's begin, and of one bucket. */
  from: number;
  step: number;
  counts: readonly number[];
}

/** Bars for counts, as one shape: hundreds of elements would cost more than they say. */
function bars(
  { from, step, counts }: Buckets,
  view: Span,
  width: number,
  base: number,
  full: number,
): string {
  const x = position(view, width);
  const most = Math.max(1, ...counts);
  const shapes = counts.flatMap((count, index) => {
    if (count === 0) return [];
    const left = x(from + index * step);
    const right = x(from + (index + 1) * step);
    if (!drawn(width, left, right)) return [];
    // The height is the square root of the share, so that single ones stay visible beside bursts.
    const height = Math.max(2.5, Math.sqrt(count / most) * full);
    const bar = cut(width, left, right);
    const wide = Math.max(1.5, bar.right - bar.left - 0.75);
    return [`M${bar.left.toFixed(2)} ${base}v${-height.toFixed(1)}h${wide.toFixed(2)}V${base}z`];
  });
  return shapes.join("");
}

export const DensityLane = memo(function DensityLane({
  view,
  width,
  top,
  density,
}: Lane & { density: Density }) {
  const base = top + LABEL + DENSITY_HEIGHT;
  const buckets = {
    from: Date.parse(density.from),
    step: density.bucket_seconds * 1000,
    counts: density.counts,
  };
  return <path d={bars(buckets, view, width, base, DENSITY_HEIGHT)} fill="var(--chart)" />;
});

/** From a mark's middle to its name, in pixels. */
const EVENT_NAME = 11;
const POINT_NAME = 13;

/** Width that a name takes, in pixels; most take less. */
function roomOf(name: string): number {
  return name.length * 6;
}

interface MarkNameProps {
  side: NameSide;
  /** The mark's middle, and how far from it the name stands. */
  at: number;
  space: number;
  y: number;
  name: string;
}

function MarkName({ side, at, space, y, name }: MarkNameProps) {
  if (side === null) return null;
  return (
    <text
      x={side === "after" ? at + space : at - space}
      y={y}
      fontSize="11.5"
      textAnchor={side === "after" ? "start" : "end"}
      fill="var(--ink)"
      stroke="var(--surface)"
      strokeWidth="3"
      paintOrder="stroke"
    >
      {name}
    </text>
  );
}

/** What a shape of the lane of events stands for: each has its own, so that colour is never alone. */
function EventMark({ event, x, y }: { event: TableEvent; x: number; y: number }) {
  const undone = event.rolledBack;
  const colour = undone ? "var(--ink-3)" : isLoss(event.kind) ? "var(--broken)" : "var(--degraded)";
  const look = {
    stroke: colour,
    strokeWidth: 2,
    fill: undone ? "var(--surface)" : "none",
    ...(undone ? { strokeDasharray: "2 2" } : {}),
  };
  switch (event.kind) {
    case "drop":
    case "drop_database":
      return <path d={`M${x - 5} ${y - 5}l10 10m0 -10l-10 10`} {...look} />;
    case "truncate":
      return <path d={`M${x - 6} ${y - 4}h12M${x - 6} ${y}h12M${x - 6} ${y + 4}h5`} {...look} />;
    case "delete":
      return <path d={`M${x - 6} ${y}h12M${x} ${y - 6}a6 6 0 1 1 -0.01 0z`} {...look} />;
    default:
      return <path d={`M${x - 5} ${y + 5}l5 -10l5 10z`} {...look} />;
  }
}

/** All transactions that destroyed something, of which only the gravest are drawn one by one. */
function EventBars({ view, width, top, markers }: Lane & { markers: Markers }) {
  if (markers.omitted === 0 || markers.from === null) return null;
  const buckets = {
    from: Date.parse(markers.from),
    step: markers.bucket_seconds * 1000,
    counts: markers.buckets.map((each) =>
      [each.deletes, each.rewrites, each.truncates, each.drops, each.databases].reduce((a, b) => a + b),
    ),
  };
  return <path d={bars(buckets, view, width, top + LABEL + ROW, ROW)} fill="var(--broken)" opacity="0.35" />;
}

/** Shapes of events closer than this would lie on each other. */
const MARK_ROOM = 3;
/** Room under which a stretch does not say what it is, in pixels. */
const WORD_ROOM = 64;

/** Where it is not known what happened to tables. */
function UnknownStretches({
  view,
  width,
  top,
  markers,
  pattern,
}: Lane & { markers: Markers; pattern: string }) {
  const x = position(view, width);
  return markers.unknown.map((stretch) => {
    const span = unknownSpan(stretch);
    if (span === null || !drawn(width, x(span.from), x(span.to))) return null;
    const bar = cut(width, x(span.from), x(span.to));
    const wide = Math.max(4, bar.right - bar.left);
    return (
      <g key={`${stretch.timeline} ${stretch.from_lsn}`}>
        <rect x={bar.left} y={top + LABEL - 2} width={wide} height={ROW} fill={`url(#${pattern})`} />
        {wide > WORD_ROOM && (
          <text
            x={Math.max(bar.left, 0) + 6}
            y={top + LABEL + 12}
            fontSize="11"
            fill="var(--ink-2)"
            stroke="var(--surface)"
            strokeWidth="3"
            paintOrder="stroke"
          >
            unknown
          </text>
        )}
      </g>
    );
  });
}

interface EventLaneProps extends Lane {
  events: readonly TableEvent[];
  markers: Markers | undefined;
  /** Fills what is not known. */
  pattern: string;
}

/** What is known to have happened to tables, and where nothing is known. */
export const EventLane = memo(function EventLane(props: EventLaneProps) {
  const { view, width, top, events, markers, pattern } = props;
  const x = position(view, width);
  const y = top + LABEL + 8;
  let last = Number.NEGATIVE_INFINITY;
  const marks = events.flatMap((event) => {
    const at = x(event.time);
    // What lies under the shape before it would only make both unreadable.
    if (!drawn(width, at, at) || at - last < MARK_ROOM) return [];
    last = at;
    const name = `${EVENT_WORDS[event.kind]} ${event.subject}`;
    return [{ event, at, name, room: EVENT_NAME + roomOf(name) }];
  });
  const sides = placeNames(marks, width);
  return (
    <g>
      {markers && (
        <UnknownStretches view={view} width={width} top={top} markers={markers} pattern={pattern} />
      )}
      {markers && <EventBars view={view} width={width} top={top} markers={markers} />}
      {marks.map(({ event, at, name }, index) => (
        <g key={event.key}>
          <EventMark event={event} x={at} y={y} />
          <MarkName side={sides[index] ?? null} at={at} space={EVENT_NAME} y={y + 4} name={name} />
        </g>
      ))}
    </g>
  );
});

export const PointLane = memo(function PointLane({
  view,
  width,
  top,
  points,
}: Lane & { points: readonly RestorePointGroup[] }) {
  const x = position(view, width);
  const y = top + LABEL;
  const marks = points.flatMap((group) => {
    const at = x(Date.parse(group.span.to));
    if (!drawn(width, at, at)) return [];
    const name = group.point?.name ?? `${group.count} points`;
    return [{ key: group.point?.lsn ?? group.span.from, at, name, room: POINT_NAME + roomOf(name) }];
  });
  const sides = placeNames(marks, width);
  return (
    <g>
      {marks.map(({ key, at, name }, index) => (
        <g key={key}>
          <line x1={at} x2={at} y1={y - 2} y2={y + ROW} stroke="var(--accent)" strokeWidth="1.5" />
          <path d={`M${at} ${y - 2} h9 l-3 4 l3 4 h-9 Z`} fill="var(--accent)" />
          <MarkName side={sides[index] ?? null} at={at} space={POINT_NAME} y={y + 9} name={name} />
        </g>
      ))}
    </g>
  );
});
