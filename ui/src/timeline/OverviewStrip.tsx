import { memo, useId } from "react";
import type { Coverage, Span } from "../wal/coverage";

interface OverviewStripProps {
  coverage: Coverage;
  bounds: Span;
  view: Span;
  onView: (view: Span) => void;
}

const WIDTH = 1000;

/** What is stored and what is missing; it stays as it is while the frame moves over it. */
const Everything = memo(function Everything({
  coverage,
  bounds,
}: Pick<OverviewStripProps, "coverage" | "bounds">) {
  const id = useId();
  const scale = WIDTH / (bounds.to - bounds.from);
  /** One shape for all spans: they are as many as the history is long. */
  const bars = (spans: readonly Span[], top: number, height: number, least: number) =>
    spans
      .map(({ from, to }) => {
        const wide = Math.max(least, (to - from) * scale);
        return `M${((from - bounds.from) * scale).toFixed(2)} ${top}h${wide.toFixed(2)}v${height}h${-wide.toFixed(2)}z`;
      })
      .join("");
  return (
    <>
      <defs>
        <pattern id={id} width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
          <rect width="8" height="8" fill="var(--broken-soft)" />
          <rect width="3" height="8" fill="var(--broken)" />
        </pattern>
      </defs>
      <rect width={WIDTH} height="20" fill="var(--sunken)" />
      <path d={bars(coverage.windows, 6, 8, 2)} fill="var(--chart)" opacity="0.7" />
      <path d={bars(coverage.gaps, 4, 12, 4)} fill={`url(#${id})`} />
    </>
  );
});

/** Everything at once, with a frame around what is shown above. A click moves the frame there. */
export function OverviewStrip({ coverage, bounds, view, onView }: OverviewStripProps) {
  const x = (time: number) => ((time - bounds.from) / (bounds.to - bounds.from)) * WIDTH;
  const whole = view.to - view.from >= (bounds.to - bounds.from) * 0.999;
  return (
    <div
      aria-hidden="true"
      className="cursor-pointer"
      onClick={(event) => {
        const box = event.currentTarget.getBoundingClientRect();
        const at = bounds.from + ((event.clientX - box.left) / box.width) * (bounds.to - bounds.from);
        const half = (view.to - view.from) / 2;
        const from = Math.min(Math.max(at - half, bounds.from), bounds.to - 2 * half);
        onView({ from, to: from + 2 * half });
      }}
    >
      <svg
        viewBox={`0 0 ${WIDTH} 20`}
        preserveAspectRatio="none"
        className="block h-5 w-full"
        role="presentation"
      >
        <Everything coverage={coverage} bounds={bounds} />
        {!whole && (
          <rect
            x={Math.max(1, x(view.from))}
            y="1"
            width={Math.max(6, x(view.to) - x(view.from) - 2)}
            height="18"
            rx="2"
            fill="var(--accent)"
            fillOpacity="0.18"
            stroke="var(--accent)"
            strokeWidth="2"
            vectorEffect="non-scaling-stroke"
          />
        )}
      </svg>
    </div>
  );
}
