import { useId } from "react";
import type { Coverage, Span } from "../wal/coverage";

interface OverviewStripProps {
  coverage: Coverage;
  bounds: Span;
  view: Span;
  onView: (view: Span) => void;
}

const WIDTH = 1000;

/** Everything at once, with a frame around what is shown above. A click moves the frame there. */
export function OverviewStrip({ coverage, bounds, view, onView }: OverviewStripProps) {
  const id = useId();
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
        <defs>
          <pattern id={id} width="8" height="8" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
            <rect width="8" height="8" fill="var(--broken-soft)" />
            <rect width="3" height="8" fill="var(--broken)" />
          </pattern>
        </defs>
        <rect width={WIDTH} height="20" fill="var(--sunken)" />
        {coverage.windows.map((span) => (
          <rect
            key={`${span.timeline} ${span.from}`}
            x={x(span.from)}
            y="6"
            width={Math.max(2, x(span.to) - x(span.from))}
            height="8"
            fill="var(--chart)"
            opacity="0.7"
          />
        ))}
        {coverage.gaps.map((span) => (
          <rect
            key={span.gap.from_lsn}
            x={x(span.from)}
            y="4"
            width={Math.max(4, x(span.to) - x(span.from))}
            height="12"
            fill={`url(#${id})`}
          />
        ))}
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
