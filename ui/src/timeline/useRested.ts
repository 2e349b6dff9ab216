import { startTransition, useCallback, useEffect, useRef, useState } from "react";

/**
 * A value once it has not changed for `delay` milliseconds, and nobody has moved anything for as long.
 * `onMove` tells of a movement; it draws nothing.
 */
export function useRested<T>(value: T, delay: number): { rested: T; onMove: () => void } {
  const [rested, setRested] = useState(value);
  const moved = useRef(Number.NEGATIVE_INFINITY);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const look = () => {
      const left = moved.current + delay - performance.now();
      if (left > 0) timer = setTimeout(look, left);
      else startTransition(() => setRested(value));
    };
    timer = setTimeout(look, delay);
    return () => clearTimeout(timer);
  }, [value, delay]);
  const onMove = useCallback(() => {
    moved.current = performance.now();
  }, []);
  return { rested, onMove };
}
