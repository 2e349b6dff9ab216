import { useEffect, useState } from "react";
import type { Span } from "../wal/coverage";

/** Lengths that differ by less than this part are one length, reached by different sums. */
const SAME_LENGTH = 1e-9;

function sameLength(a: Span, b: Span): boolean {
  return Math.abs(a.to - a.from - (b.to - b.from)) <= (b.to - b.from) * SAME_LENGTH;
}

/**
 * What each of so many lanes draws. Drawing all of them anew takes longer than a frame has, so they take
 * a picture over one after the other, one a frame; until its turn has come, a lane is moved to where it
 * belongs. A picture at another zoom is taken over by all at once: lanes of two zooms would not fit
 * together.
 */
export function useInTurn<Picture extends { view: Span; width: number }>(
  newest: Picture,
  lanes: number,
): readonly Picture[] {
  const [drawn, setDrawn] = useState<readonly Picture[]>(() => new Array<Picture>(lanes).fill(newest));
  const fits = drawn.every((each) => each.width === newest.width && sameLength(each.view, newest.view));
  const waiting = fits && drawn.some((each) => each !== newest);
  if (!fits) setDrawn(drawn.map(() => newest));
  useEffect(() => {
    if (!waiting) return;
    const frame = requestAnimationFrame(() => {
      const away = drawn.map((each) => (each === newest ? -1 : Math.abs(each.view.from - newest.view.from)));
      // The farthest first: a hand that moves on must not leave the last of them behind for ever.
      const turn = away.indexOf(Math.max(...away));
      setDrawn(drawn.map((each, lane) => (lane === turn ? newest : each)));
    });
    return () => cancelAnimationFrame(frame);
  }, [drawn, newest, waiting]);
  return drawn;
}
