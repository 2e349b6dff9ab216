import type { Gap, Points } from "../api/bindings";

/** A stretch of time in milliseconds since 1970. */
export interface Span {
  from: number;
  to: number;
}

export interface WindowSpan extends Span {
  timeline: number;
}

export interface GapSpan extends Span {
  timeline: number;
  gap: Gap;
}

export interface Coverage {
  /** From the first to the last time that is known. */
  extent: Span;
  windows: WindowSpan[];
  gaps: GapSpan[];
  timelines: number[];
}

/**
 * Where gaps lie in time. A gap is known by its LSNs; all that can be said of its time is that it lies
 * between the last commit before it and the first commit after it.
 */
export function gapSpans(points: Points): GapSpan[] {
  const gaps = new Map<string, GapSpan>();
  for (const { timeline, gaps: touching } of points.windows) {
    const beside = points.windows.filter((window) => window.timeline === timeline);
    for (const gap of touching) {
      const before = beside.find((window) => window.to_lsn === gap.from_lsn);
      const after = beside.find((window) => window.from_lsn === gap.to_lsn);
      const from = Date.parse(before?.to ?? gap.detected_at);
      const to = Date.parse(after?.from ?? gap.detected_at);
      const span = { timeline, gap, from: Math.min(from, to), to: Math.max(from, to) };
      gaps.set(`${timeline} ${gap.from_lsn} ${gap.to_lsn}`, span);
    }
  }
  return [...gaps.values()].sort((a, b) => a.from - b.from);
}

/** What is stored, by time, from the times that are known; null when none is. */
export function coverageOf(points: Points): Coverage | null {
  const windows: WindowSpan[] = [];
  for (const window of points.windows) {
    if (window.from !== null && window.to !== null) {
      windows.push({
        timeline: window.timeline,
        from: Date.parse(window.from),
        to: Date.parse(window.to),
      });
    }
  }
  const times = [
    ...windows.flatMap((span) => [span.from, span.to]),
    ...points.snapshots.flatMap((each) => [Date.parse(each.started_at), Date.parse(each.finished_at)]),
    ...points.restore_points.map((each) => Date.parse(each.time)),
  ];
  if (times.length === 0) return null;
  const from = Math.min(...times);
  return {
    extent: { from, to: Math.max(from + 1000, ...times) },
    windows,
    gaps: gapSpans(points),
    timelines: [...new Set(points.windows.map((window) => window.timeline))].sort((a, b) => a - b),
  };
}
