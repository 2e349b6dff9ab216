import type { Span } from "../wal/coverage";

/** The shortest stretch that is shown: commit times have microseconds, two of them need some room. */
export const MIN_SPAN = 20;

/** Everything that is stored, with a margin; the margin on the right is what is not stored yet. */
export function fullView(extent: Span): Span {
  const span = extent.to - extent.from;
  return { from: extent.from - span * 0.03, to: extent.to + span * 0.06 };
}

function clamp(view: Span, bounds: Span): Span {
  const length = Math.min(Math.max(view.to - view.from, MIN_SPAN), bounds.to - bounds.from);
  const from = Math.min(Math.max(view.from, bounds.from), bounds.to - length);
  return { from, to: from + length };
}

/** `factor` below 1 shows less; `place` stays where it is on the screen. */
export function zoom(view: Span, factor: number, place: number, bounds: Span): Span {
  // A wheel that is turned without a pointer has no place.
  const at = Number.isFinite(place) ? place : (view.from + view.to) / 2;
  const length = (view.to - view.from) * factor;
  if (length < MIN_SPAN && factor < 1) {
    const part = (at - view.from) / (view.to - view.from);
    return clamp({ from: at - MIN_SPAN * part, to: at + MIN_SPAN * (1 - part) }, bounds);
  }
  return clamp({ from: at - (at - view.from) * factor, to: at + (view.to - at) * factor }, bounds);
}

/** Moves by a part of what is shown. */
export function pan(view: Span, part: number, bounds: Span): Span {
  const by = (view.to - view.from) * part;
  return clamp({ from: view.from + by, to: view.to + by }, bounds);
}

/** The same stretch moved just so far that `at` is well inside it. */
export function reveal(view: Span, at: number, bounds: Span): Span {
  const length = view.to - view.from;
  if (at >= view.from + length * 0.04 && at <= view.to - length * 0.04) return view;
  return clamp({ from: at - length / 2, to: at + length / 2 }, bounds);
}

/** A stretch of a length around a time. */
export function around(at: number, length: number, bounds: Span): Span {
  return clamp({ from: at - length / 2, to: at + length / 2 }, bounds);
}

/** Positions on the drawing, in pixels from its left edge. */
export function position(view: Span, width: number): (time: number) => number {
  const scale = width / (view.to - view.from);
  return (time) => (time - view.from) * scale;
}

export function timeAt(view: Span, width: number, x: number): number {
  return view.from + (x / width) * (view.to - view.from);
}
