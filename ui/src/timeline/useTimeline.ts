import { useRef } from "react";
import { useAnswer } from "../api/queries";
import type { Span } from "../wal/coverage";
import { markersRequest, timelineRequest } from "./request";

const POLL_MS = 15_000;
const READING_MS = 1_000;

/** What destroyed rows in a stretch, as the index beside the WAL says it; in everything when none is given. */
export function useMarkers(cluster: string, view: Span | null) {
  return useAnswer("markers", markersRequest(cluster, view), {
    keep: true,
    every: POLL_MS,
    staleTime: 5_000,
  });
}

/** What the drawing of a stretch needs; of everything there is when no stretch is given. */
export function useTimeline(cluster: string, view: Span | null, timeline: number | null) {
  const reading = useRef(false);
  const answer = useAnswer("timeline", timelineRequest(cluster, view, timeline), {
    keep: true,
    every: reading.current ? READING_MS : POLL_MS,
    staleTime: 5_000,
  });
  reading.current = answer.data?.reading ?? false;
  return answer;
}
