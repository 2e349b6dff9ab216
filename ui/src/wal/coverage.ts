import type { Branch, Gap, Points, Timeline } from "../api/bindings";

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

/** One row of the WAL lane: a timeline, and where it left which other. */
export type Fork = Pick<Branch, "timeline" | "parent"> & { at: number | null };

/**
 * Where gaps lie in time. A gap is known by its LSNs; all that can be said of its time is that it lies
 * between the last commit before it and the first commit after it.
 */
export function gapSpans(points: Pick<Points, "windows">): GapSpan[] {
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

function windowSpans(points: Pick<Points, "windows">): WindowSpan[] {
  return points.windows.flatMap((window) =>
    window.from === null || window.to === null
      ? []
      : [{ timeline: window.timeline, from: Date.parse(window.from), to: Date.parse(window.to) }],
  );
}

function timelinesOf(points: Pick<Points, "windows">, more: readonly number[] = []): number[] {
  const all = [...points.windows.map((window) => window.timeline), ...more];
  return [...new Set(all)].sort((a, b) => a - b);
}

/** The same from the engine's own summary; null when nothing is stored. */
export function coverageOfTimeline(timeline: Timeline): Coverage | null {
  if (timeline.extent === null) return null;
  return {
    extent: { from: Date.parse(timeline.extent.from), to: Date.parse(timeline.extent.to) },
    windows: windowSpans(timeline),
    gaps: gapSpans(timeline),
    timelines: timelinesOf(
      timeline,
      timeline.branches.map((branch) => branch.timeline),
    ),
  };
}

/** Where each timeline left its parent, in time; null where that is not known. */
export function forksOf(branches: readonly Branch[]): Fork[] {
  return branches.map(({ timeline, parent, switch_time }) => ({
    timeline,
    parent,
    at: switch_time === null ? null : Date.parse(switch_time),
  }));
}

/** What is stored, by time, from the times that are known; null when none is. */
export function coverageOf(points: Points): Coverage | null {
  const windows = windowSpans(points);
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
    timelines: timelinesOf(points),
  };
}
