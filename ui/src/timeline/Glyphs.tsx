import type { RecoverabilityState } from "../elements/StateBadge";

/** The parts of one shape around its middle: relative paths, and how they are drawn. */
interface Part {
  path: string;
  fill: string;
  stroke: string;
  width: number;
  dash?: string;
}

const SURFACE = "var(--surface)";

/** A ring of the radius around the middle. */
function ring(radius: number): string {
  return `m${-radius} 0a${radius} ${radius} 0 1 0 ${radius * 2} 0a${radius} ${radius} 0 1 0 ${-radius * 2} 0z`;
}

function filled(state: RecoverabilityState, path: string): Part {
  return { path, fill: `var(--${state})`, stroke: SURFACE, width: 1.5 };
}

function sign(path: string): Part {
  return { path, fill: "none", stroke: SURFACE, width: 1.8 };
}

/** One shape for each state, so that colour is never alone. */
const SHAPES: Record<RecoverabilityState, readonly Part[]> = {
  proven: [
    filled("proven", "m0-9l7.5 3v7c0 4-3.5 7-7.5 8c-4-1-7.5-4-7.5-8v-7z"),
    sign("m-3.4 0l2.6 2.8l4.4-5.6"),
  ],
  verified: [filled("verified", ring(7.5)), sign("m-3.2 .2l2.4 2.4l4.2-5")],
  stored: [
    { path: ring(7), fill: SURFACE, stroke: "var(--stored)", width: 2 },
    { path: ring(2.2), fill: "var(--stored)", stroke: "none", width: 0 },
  ],
  degraded: [filled("degraded", "m0-8l8.5 15h-17z"), sign("m0-2.5v5m0 2.1v.4")],
  broken: [
    filled("broken", "m-3.3-8h6.6l4.7 4.7v6.6l-4.7 4.7h-6.6l-4.7-4.7v-6.6z"),
    sign("m-2.8-2.8l5.6 5.6m0-5.6l-5.6 5.6"),
  ],
  unknown: [{ path: ring(7.5), fill: SURFACE, stroke: "var(--unknown)", width: 1.8, dash: "3 2" }],
};

/**
 * The same shape at many places of one row. Each part is one element for all of them: hundreds of
 * elements would cost more than they say, whenever the picture is drawn anew.
 */
export function Glyphs({ state, places, y }: { state: RecoverabilityState; places: number[]; y: number }) {
  const parts = SHAPES[state] ?? SHAPES.unknown;
  return parts.map((part) => (
    <path
      key={part.path}
      d={places.map((x) => `M${x.toFixed(1)} ${y}${part.path}`).join("")}
      fill={part.fill}
      stroke={part.stroke}
      strokeWidth={part.width}
      strokeDasharray={part.dash}
    />
  ));
}
