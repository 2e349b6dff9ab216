import { useId } from "react";
import type { Points } from "../api/bindings";
import { toErrorObject } from "../api/client";
import { Unknown } from "../elements/Unknown";
import { Time } from "../time/Time";
import { type Coverage, coverageOf, type Span } from "../wal/coverage";

const WIDTH = 1000;

function summary(coverage: Coverage, snapshots: number): string {
  const gaps = coverage.gaps.length;
  return `WAL coverage with ${gaps === 0 ? "no gap" : gaps === 1 ? "1 gap" : `${gaps} gaps`} and ${snapshots} ${snapshots === 1 ? "snapshot" : "snapshots"}`;
}

function Drawing({ coverage, snapshots }: { coverage: Coverage; snapshots: number[] }) {
  const hatch = useId();
  const span = coverage.extent.to - coverage.extent.from;
  const x = (time: number) => ((time - coverage.extent.from) / span) * WIDTH;
  const width = (part: Span) => Math.max(4, x(part.to) - x(part.from));
  return (
    <svg
      role="img"
      aria-label={summary(coverage, snapshots.length)}
      viewBox={`-6 0 ${WIDTH + 12} 22`}
      preserveAspectRatio="none"
      className="block h-5 w-full"
    >
      <defs>
        <pattern id={hatch} width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="8" height="8" fill="var(--broken-soft)" />
          <rect width="3" height="8" fill="var(--broken)" />
        </pattern>
      </defs>
      <rect x="0" y="5" width={WIDTH} height="12" rx="2" fill="var(--sunken)" stroke="var(--line)" />
      {coverage.windows.map((window) => (
        <rect
          key={`w${window.from}-${window.to}`}
          x={x(window.from)}
          y="5"
          width={width(window)}
          height="12"
          rx="2"
          fill="var(--chart)"
        />
      ))}
      {coverage.gaps.map((gap) => (
        <rect
          key={`g${gap.from}-${gap.to}`}
          x={x(gap.from)}
          y="3"
          width={width(gap)}
          height="16"
          fill={`url(#${hatch})`}
          stroke="var(--broken)"
        />
      ))}
      {snapshots.map((snapshot) => (
        <rect
          key={`s${snapshot}`}
          x={x(snapshot) - 2}
          y="0"
          width="4"
          height="22"
          rx="1"
          fill="var(--ink)"
          stroke="var(--surface)"
        />
      ))}
    </svg>
  );
}

/** From the oldest to the newest point that is stored, with what is missing in between. */
export function CoverageBar({ points, problem }: { points: Points | undefined; problem: unknown }) {
  if (problem) {
    return <p className="text-small text-broken">Coverage unknown: {toErrorObject(problem).message}</p>;
  }
  if (!points) return <div className="h-5 rounded bg-sunken" />;
  const coverage = coverageOf(points);
  if (coverage === null) {
    return (
      <p className="text-small text-ink-3">
        Coverage: <Unknown>no commit is stored yet</Unknown>
      </p>
    );
  }
  return (
    <div>
      <Drawing
        coverage={coverage}
        snapshots={points.snapshots.map((snapshot) => Date.parse(snapshot.finished_at))}
      />
      <div className="mt-1 flex flex-wrap justify-between gap-x-4 text-small text-ink-3">
        <Time value={new Date(coverage.extent.from).toISOString()} digits={0} />
        <span className="max-sm:hidden">
          <span className={coverage.gaps.length > 0 ? "font-semibold text-broken" : ""}>
            {coverage.gaps.length === 0
              ? "no gap"
              : `${coverage.gaps.length} ${coverage.gaps.length === 1 ? "gap" : "gaps"} (hatched)`}
          </span>{" "}
          · upright marks are snapshots
        </span>
        <Time value={new Date(coverage.extent.to).toISOString()} digits={0} />
      </div>
    </div>
  );
}
