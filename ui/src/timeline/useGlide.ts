import { type RefObject, startTransition, useCallback, useEffect, useLayoutEffect, useRef } from "react";
import type { Span } from "../wal/coverage";

/** Moved further than this part of its width, the picture is drawn anew around where it has come to. */
const DRAW_ANEW = 0.7;
const SETTLE_MS = 140;

interface Glide {
  /** What is shown when nothing moves, and what each lane has drawn: it may be on its way there. */
  view: Span;
  drawn: readonly { view: Span }[];
  width: number;
  onView: (view: Span) => void;
  onMove: () => void;
}

/**
 * Moves what is drawn without drawing it: while a hand or a wheel moves it, only one attribute of each
 * lane changes a frame. When it comes to rest the view follows. `picture` has one child for each lane.
 */
export function useGlide(
  picture: RefObject<SVGGElement | null>,
  { view, drawn, width, onView, onMove }: Glide,
) {
  const latest = useRef({ view, drawn, width, onView });
  latest.current = { view, drawn, width, onView };
  const target = useRef<Span | null>(null);
  /** The view that was asked for last; it is drawn some frames later. */
  const asked = useRef<Span | null>(null);
  const frame = useRef(0);
  const rest = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);

  /** How far from where something was drawn it is to be shown, in pixels. */
  const shift = useCallback((from: Span) => {
    const { view: resting, width: room } = latest.current;
    const to = target.current ?? resting;
    return ((from.from - to.from) / (from.to - from.from)) * room;
  }, []);

  const draw = useCallback(() => {
    frame.current = 0;
    latest.current.drawn.forEach((lane, index) => {
      picture.current?.children[index]?.setAttribute("transform", `translate(${shift(lane.view)} 0)`);
    });
  }, [picture, shift]);

  const settle = useCallback(() => {
    clearTimeout(rest.current);
    const to = target.current;
    if (to === null || to === asked.current) return;
    asked.current = to;
    // Drawn anew in parts between the frames: a hand that still moves it must not wait for that.
    startTransition(() => latest.current.onView(to));
  }, []);

  const glideTo = useCallback(
    (to: Span) => {
      target.current = to;
      onMove();
      clearTimeout(rest.current);
      rest.current = setTimeout(settle, SETTLE_MS);
      const { view: resting, width: room } = latest.current;
      if (Math.abs(shift(resting)) > room * DRAW_ANEW) settle();
      else if (frame.current === 0) frame.current = requestAnimationFrame(draw);
    },
    [draw, settle, shift, onMove],
  );

  /** Where the picture is now, moved or not. */
  const where = useCallback(() => target.current ?? latest.current.view, []);

  useLayoutEffect(() => {
    // Whoever draws another view has arrived there, unless a hand has moved on meanwhile.
    if (view !== asked.current || view === target.current) target.current = null;
  }, [view]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what was drawn anew is moved to its place
  useLayoutEffect(draw, [view, drawn, draw]);

  useEffect(
    () => () => {
      cancelAnimationFrame(frame.current);
      clearTimeout(rest.current);
    },
    [],
  );

  return { glideTo, settle, where };
}
