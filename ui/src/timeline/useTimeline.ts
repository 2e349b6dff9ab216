import { useRef } from "react";
import { useAnswer } from "../api/queries";
import type { Span } from "../wal/coverage";

/** Columns of snapshots and buckets of commits that one width of the window is drawn in. */
const GROUPS = 60;
const BUCKETS = 240;
/** How much is drawn beside what is shown, on either side, in widths: it can be moved without drawing anew. */
export const BESIDE = 1;

const POLL_MS = 15_000;
const READING_MS = 1_000;

function times(view: Span) {
  const beside = (view.to - view.from) * BESIDE;
  return {
    from: new Date(Math.floor(view.from - beside)).toISOString(),
    to: new Date(Math.ceil(view.to + beside)).toISOString(),
  };
}

/** What the drawing of a stretch needs; of everything there is when no stretch is given. */
export function useTimeline(cluster: string, view: Span | null, timeline: number | null) {
  const widths = view === null ? 1 : 1 + 2 * BESIDE;
  const reading = useRef(false);
  const answer = useAnswer(
    "timeline",
    {
      cluster,
      shown: view === null ? null : times(view),
      groups: GROUPS * widths,
      buckets: BUCKETS * widths,
      timeline,
    },
    { keep: true, every: reading.current ? READING_MS : POLL_MS, staleTime: 5_000 },
  );
  reading.current = answer.data?.reading ?? false;
  return answer;
}
