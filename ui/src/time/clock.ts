import { useSyncExternalStore } from "react";

type Listener = () => void;
const listeners = new Set<Listener>();
let timer: ReturnType<typeof setInterval> | undefined;
let now = Date.now();

function subscribe(listener: Listener): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    now = Date.now();
    for (const each of listeners) each();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) {
      clearInterval(timer);
      timer = undefined;
    }
  };
}

function snapshot(): number {
  // Between ticks the value must not change, or React would render without end.
  if (timer === undefined) now = Date.now();
  return Math.floor(now / 1000) * 1000;
}

/** Milliseconds since 1970, moving once a second; one timer serves every clock on the screen. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, snapshot);
}
