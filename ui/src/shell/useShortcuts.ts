import { useEffect, useRef } from "react";
import { matchShortcut, pressOf, type ShortcutId, takesKeys } from "./shortcuts";

const SEQUENCE_MS = 1500;

/** Listens for the window's keys. A handler that is missing leaves its key alone. */
export function useShortcuts(handlers: Partial<Record<ShortcutId, () => void>>): void {
  const current = useRef(handlers);
  current.current = handlers;

  useEffect(() => {
    let pending: string | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const forget = () => {
      pending = null;
      clearTimeout(timer);
    };
    const onKey = (event: KeyboardEvent) => {
      const press = pressOf(event);
      if (press === null || event.defaultPrevented) return;
      if (takesKeys(event.target) && !press.startsWith("mod+")) return;
      const match = matchShortcut(press, "global", pending);
      forget();
      if (match === null) return;
      if ("pending" in match) {
        pending = match.pending;
        timer = setTimeout(forget, SEQUENCE_MS);
        return;
      }
      const handler = current.current[match.id];
      if (!handler) return;
      event.preventDefault();
      handler();
    };
    window.addEventListener("keydown", onKey);
    return () => {
      forget();
      window.removeEventListener("keydown", onKey);
    };
  }, []);
}
