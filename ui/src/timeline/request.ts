import type { RequestOf } from "../api/client";
import type { Span } from "../wal/coverage";

/** Columns of snapshots and buckets of commits that one width of the window is drawn in. */
const GROUPS = 60;
const BUCKETS = 240;
/** How much is drawn beside what is shown, on either side, in widths: it can be moved without drawing anew. */
export const BESIDE = 1;

function times(view: Span) {
  const beside = (view.to - view.from) * BESIDE;
  return {
    from: new Date(Math.floor(view.from - beside)).toISOString(),
    to: new Date(Math.ceil(view.to + beside)).toISOString(),
  };
}

/** Widths of the window that are asked for. */
function widthsOf(view: Span | null): number {
  return view === null ? 1 : 1 + 2 * BESIDE;
}

/** So many transactions that destroyed something are named in one drawing; the rest is counted. */
const MARKERS = 300;

/** What the drawing of a stretch needs; of everything there is when no stretch is given. */
export function timelineRequest(
  cluster: string,
  view: Span | null,
  timeline: number | null,
): RequestOf<"timeline"> {
  const widths = widthsOf(view);
  const shown = view === null ? null : times(view);
  return { cluster, shown, groups: GROUPS * widths, buckets: BUCKETS * widths, timeline };
}

/** What destroyed rows in a stretch; in everything when none is given. */
export function markersRequest(cluster: string, view: Span | null): RequestOf<"markers"> {
  const shown = view === null ? { from: null, to: null } : times(view);
  return { cluster, ...shown, limit: MARKERS, buckets: GROUPS * widthsOf(view), rebuild: false };
}
