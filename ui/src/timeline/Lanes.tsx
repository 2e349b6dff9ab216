import type { Density, Points, RestorePoint } from "../api/bindings";
import type { RecoverabilityState } from "../elements/StateBadge";
import type { Coverage } from "../wal/coverage";
import type { Tick } from "./axis";

export interface Lane {
  x: (time: number) => number;
  width: number;
  top: number;
}

export const AXIS = 30;
export const LABEL = 20;
export const ROW = 20;

export function LaneLabel({ top, text, note }: { top: number; text: string; note?: string }) {
  return (
    <text x="0" y={top + 12} fontSize="11.5" fontWeight="600" fill="var(--ink-2)">
      {text}
      {note && (
        <tspan dx="8" fontWeight="400" fill="var(--ink-3)">
          {note}
        </tspan>
      )}
    </text>
  );
}

/** Room that a label of the axis needs, in pixels. */
const LABEL_ROOM = 72;

export function AxisLane({ x, width, ticks, height }: Lane & { ticks: Tick[]; height: number }) {
  let free = Number.NEGATIVE_INFINITY;
  return (
    <g>
      {ticks.map((tick) => {
        const at = Math.round(x(tick.time)) + 0.5;
        const labelled = at >= free;
        if (labelled) free = at + LABEL_ROOM;
        const anchor = at < 30 ? "start" : at > width - 30 ? "end" : "middle";
        return (
          <g key={tick.time}>
            <line x1={at} x2={at} y1={AXIS - 6} y2={height} stroke="var(--line)" />
            {labelled && (
              <text
                x={at}
                y={16}
                fontSize="11.5"
                textAnchor={anchor}
                fill={tick.strong ? "var(--ink)" : "var(--ink-2)"}
                fontWeight={tick.strong ? 600 : 400}
              >
                {tick.label}
              </text>
            )}
          </g>
        );
      })}
      <line x1="0" x2={width} y1={AXIS - 0.5} y2={AXIS - 0.5} stroke="var(--line-strong)" />
    </g>
  );
}

/** One shape for each state, so that colour is never alone. */
function Glyph({ state, cx, cy }: { state: RecoverabilityState; cx: number; cy: number }) {
  const colour = `var(--${state})`;
  const at = `translate(${cx} ${cy})`;
  const halo = { stroke: "var(--surface)", strokeWidth: 1.5 };
  switch (state) {
    case "proven":
      return (
        <g transform={at}>
          <path d="M0 -9 L7.5 -6 V1 C7.5 5 4 8 0 9 C-4 8 -7.5 5 -7.5 1 V-6 Z" fill={colour} {...halo} />
          <path d="M-3.4 0 L-0.8 2.8 L3.6 -2.8" fill="none" stroke="var(--surface)" strokeWidth="1.8" />
        </g>
      );
    case "verified":
      return (
        <g transform={at}>
          <circle r="7.5" fill={colour} {...halo} />
          <path d="M-3.2 0.2 L-0.8 2.6 L3.4 -2.4" fill="none" stroke="var(--surface)" strokeWidth="1.8" />
        </g>
      );
    case "stored":
      return (
        <g transform={at}>
          <circle r="7" fill="var(--surface)" stroke={colour} strokeWidth="2" />
          <circle r="2.2" fill={colour} />
        </g>
      );
    case "degraded":
      return (
        <g transform={at}>
          <path d="M0 -8 L8.5 7 H-8.5 Z" fill={colour} {...halo} />
          <path d="M0 -2.5 V2.5 M0 4.6 V5" stroke="var(--surface)" strokeWidth="1.8" />
        </g>
      );
    case "broken":
      return (
        <g transform={at}>
          <path d="M-3.3 -8 H3.3 L8 -3.3 V3.3 L3.3 8 H-3.3 L-8 3.3 V-3.3 Z" fill={colour} {...halo} />
          <path d="M-2.8 -2.8 L2.8 2.8 M2.8 -2.8 L-2.8 2.8" stroke="var(--surface)" strokeWidth="1.8" />
        </g>
      );
    default:
      return (
        <g transform={at}>
          <circle
            r="7.5"
            fill="var(--surface)"
            stroke="var(--unknown)"
            strokeWidth="1.8"
            strokeDasharray="3 2"
          />
        </g>
      );
  }
}

export function SnapshotLane({ x, width, top, snapshots }: Lane & { snapshots: Points["snapshots"] }) {
  const middle = top + LABEL + ROW / 2;
  return (
    <g>
      <line x1="0" x2={width} y1={middle} y2={middle} stroke="var(--line)" />
      {snapshots.map((snapshot) => {
        const from = x(Date.parse(snapshot.started_at));
        const to = x(Date.parse(snapshot.finished_at));
        if (to < -20 || from > width + 20) return null;
        return (
          <g key={snapshot.id}>
            {to - from > 4 && (
              <rect
                x={from}
                y={middle - 3}
                width={to - from}
                height="6"
                rx="3"
                fill={`var(--${snapshot.state})`}
                opacity="0.45"
              />
            )}
            <Glyph state={snapshot.state} cx={to} cy={middle} />
          </g>
        );
      })}
    </g>
  );
}

interface CoverageLaneProps extends Lane {
  coverage: Coverage;
  patterns: { gap: string; tail: string };
}

export function CoverageLane({ x, width, top, coverage, patterns }: CoverageLaneProps) {
  const tailFrom = Math.max(0, x(coverage.extent.to));
  const newest = coverage.timelines.length - 1;
  return (
    <g>
      {coverage.timelines.map((timeline, row) => {
        const y = top + LABEL + row * (ROW + 3);
        return (
          <g key={timeline}>
            <rect x="0" y={y} width={width} height={ROW} rx="3" fill="var(--sunken)" />
            {coverage.windows
              .filter((span) => span.timeline === timeline)
              .map((span) => (
                <rect
                  key={span.from}
                  x={x(span.from)}
                  y={y}
                  width={Math.max(2, x(span.to) - x(span.from))}
                  height={ROW}
                  rx="2"
                  fill="var(--chart)"
                />
              ))}
            {coverage.gaps
              .filter((span) => span.timeline === timeline)
              .map((span) => (
                <rect
                  key={span.gap.from_lsn}
                  x={x(span.from)}
                  y={y - 1}
                  width={Math.max(5, x(span.to) - x(span.from))}
                  height={ROW + 2}
                  fill={`url(#${patterns.gap})`}
                  stroke="var(--broken)"
                />
              ))}
            {row === newest && tailFrom < width && (
              <rect
                x={tailFrom}
                y={y}
                width={width - tailFrom}
                height={ROW}
                fill={`url(#${patterns.tail})`}
              />
            )}
            {coverage.timelines.length > 1 && (
              <text
                x="4"
                y={y + 13}
                fontSize="11"
                fontWeight="600"
                fill="var(--ink)"
                stroke="var(--surface)"
                strokeWidth="3"
                paintOrder="stroke"
              >
                TLI {timeline}
              </text>
            )}
          </g>
        );
      })}
    </g>
  );
}

export const DENSITY_HEIGHT = 84;

export function DensityLane({ x, width, top, density }: Lane & { density: Density | undefined }) {
  const base = top + LABEL + DENSITY_HEIGHT;
  if (!density) return <line x1="0" x2={width} y1={base} y2={base} stroke="var(--line)" />;
  const from = Date.parse(density.from);
  const step = density.bucket_seconds * 1000;
  const most = Math.max(1, ...density.counts);
  return (
    <g>
      {density.counts.map((count, index) => {
        if (count === 0) return null;
        const left = x(from + index * step);
        const right = x(from + (index + 1) * step);
        if (right < 0 || left > width) return null;
        // The height is the square root of the share, so that single commits stay visible beside bursts.
        const height = Math.max(2.5, Math.sqrt(count / most) * DENSITY_HEIGHT);
        return (
          <rect
            // biome-ignore lint/suspicious/noArrayIndexKey: a bucket is its index
            key={index}
            x={left}
            y={base - height}
            width={Math.max(1.5, right - left - 0.75)}
            height={height}
            rx="0.75"
            fill="var(--chart)"
          />
        );
      })}
      <line x1="0" x2={width} y1={base + 0.5} y2={base + 0.5} stroke="var(--line-strong)" />
    </g>
  );
}

export function PointLane({ x, width, top, points }: Lane & { points: RestorePoint[] }) {
  const y = top + LABEL;
  let free = Number.NEGATIVE_INFINITY;
  const visible = points.filter((point) => {
    const at = x(Date.parse(point.time));
    return at >= -4 && at <= width + 4;
  });
  return (
    <g>
      <line x1="0" x2={width} y1={y + ROW} y2={y + ROW} stroke="var(--line)" />
      {visible.map((point) => {
        const at = x(Date.parse(point.time));
        const room = point.name.length * 6.6 + 18;
        const left = at + room > width;
        const start = left ? at - room : at;
        const named = start > free;
        if (named) free = left ? at : at + room;
        return (
          <g key={`${point.name} ${point.lsn}`}>
            <line x1={at} x2={at} y1={y - 2} y2={y + ROW} stroke="var(--accent)" strokeWidth="1.5" />
            <path
              d={`M${at} ${y - 2} h${left ? -9 : 9} l${left ? 3 : -3} 4 l${left ? -3 : 3} 4 h${left ? 9 : -9} Z`}
              fill="var(--accent)"
            />
            {named && (
              <text
                x={left ? at - 13 : at + 13}
                y={y + 9}
                fontSize="11.5"
                textAnchor={left ? "end" : "start"}
                fill="var(--ink)"
              >
                {point.name}
              </text>
            )}
          </g>
        );
      })}
    </g>
  );
}
