import { type RefObject, useLayoutEffect, useState } from "react";

/** What is taken for the width where nothing has one. */
export const UNMEASURED = 960;

/** The width of an element in whole pixels, followed as it changes; null before it was measured. */
export function useWidth(ref: RefObject<HTMLElement | null>): number | null {
  const [width, setWidth] = useState<number | null>(null);
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element) return;
    const measure = () => {
      const found = Math.floor(element.getBoundingClientRect().width);
      setWidth((before) => (found > 0 ? found : (before ?? UNMEASURED)));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return width;
}
