/** Every key of the window, in one place: the handlers look keys up here and the cheat sheet prints it. */

export type ShortcutScope = "global" | "timeline";

export interface Shortcut {
  id: string;
  scope: ShortcutScope;
  /** A key, or a sequence such as `g o`. Modifiers: `mod+` (⌘ or Ctrl), `shift+`. */
  keys: readonly string[];
  label: string;
  group: "Go to" | "Window" | "Timeline";
}

export const SHORTCUTS = [
  { id: "go-overview", scope: "global", keys: ["g o"], label: "Overview", group: "Go to" },
  { id: "go-timeline", scope: "global", keys: ["g t"], label: "Timeline of the cluster", group: "Go to" },
  { id: "go-restore", scope: "global", keys: ["g r"], label: "Restore the cluster", group: "Go to" },
  { id: "go-policies", scope: "global", keys: ["g p"], label: "Policies of the cluster", group: "Go to" },
  { id: "go-jobs", scope: "global", keys: ["g j"], label: "Jobs", group: "Go to" },
  { id: "go-verify", scope: "global", keys: ["g v"], label: "Verify", group: "Go to" },
  { id: "go-settings", scope: "global", keys: ["g s"], label: "Settings", group: "Go to" },
  { id: "zone", scope: "global", keys: ["u"], label: "Times in UTC or local", group: "Window" },
  { id: "jobs-drawer", scope: "global", keys: ["mod+j"], label: "Running jobs", group: "Window" },
  { id: "cheat-sheet", scope: "global", keys: ["?"], label: "This list of keys", group: "Window" },
  {
    id: "previous-commit",
    scope: "timeline",
    keys: ["arrowleft"],
    label: "Previous commit",
    group: "Timeline",
  },
  { id: "next-commit", scope: "timeline", keys: ["arrowright"], label: "Next commit", group: "Timeline" },
  {
    id: "previous-commits",
    scope: "timeline",
    keys: ["shift+arrowleft"],
    label: "Ten commits back",
    group: "Timeline",
  },
  {
    id: "next-commits",
    scope: "timeline",
    keys: ["shift+arrowright"],
    label: "Ten commits on",
    group: "Timeline",
  },
  {
    id: "second-back",
    scope: "timeline",
    keys: ["alt+arrowleft"],
    label: "One second back, off the commits",
    group: "Timeline",
  },
  {
    id: "second-on",
    scope: "timeline",
    keys: ["alt+arrowright"],
    label: "One second on, off the commits",
    group: "Timeline",
  },
  {
    id: "previous-point",
    scope: "timeline",
    keys: ["["],
    label: "Previous snapshot or restore point",
    group: "Timeline",
  },
  {
    id: "next-point",
    scope: "timeline",
    keys: ["]"],
    label: "Next snapshot or restore point",
    group: "Timeline",
  },
  {
    id: "previous-event",
    scope: "timeline",
    keys: ["{"],
    label: "Previous destructive event",
    group: "Timeline",
  },
  {
    id: "next-event",
    scope: "timeline",
    keys: ["}"],
    label: "Next destructive event",
    group: "Timeline",
  },
  { id: "zoom-in", scope: "timeline", keys: ["+", "="], label: "Zoom in", group: "Timeline" },
  { id: "zoom-out", scope: "timeline", keys: ["-"], label: "Zoom out", group: "Timeline" },
  { id: "zoom-fit", scope: "timeline", keys: ["0"], label: "Show everything", group: "Timeline" },
  { id: "oldest", scope: "timeline", keys: ["home"], label: "Oldest commit", group: "Timeline" },
  { id: "newest", scope: "timeline", keys: ["end"], label: "Newest commit", group: "Timeline" },
  { id: "now", scope: "timeline", keys: ["n"], label: "Show the newest commit closely", group: "Timeline" },
  { id: "preview", scope: "timeline", keys: ["p"], label: "Preview what would be lost", group: "Timeline" },
] as const satisfies readonly Shortcut[];

export type ShortcutId = (typeof SHORTCUTS)[number]["id"];

type KeyPress = Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "shiftKey" | "altKey">;

/** The press as the registry writes it; null for a combination that no shortcut uses. */
export function pressOf(event: KeyPress): string | null {
  const key = event.key.toLowerCase();
  // With Alt many keyboards write other characters: only keys without one are taken.
  if (event.altKey && key.length === 1) return null;
  if (["shift", "control", "meta", "alt"].includes(key)) return null;
  const mod = event.ctrlKey || event.metaKey ? "mod+" : "";
  // For characters such as "?" and "+" the shift is part of the character.
  const shift = event.shiftKey && key.length > 1 ? "shift+" : "";
  return `${mod}${event.altKey ? "alt+" : ""}${shift}${key}`;
}

/** Finds what a press means. `pending` is the first key of a sequence that was pressed just before. */
export function matchShortcut(
  press: string,
  scope: ShortcutScope,
  pending: string | null,
): { id: ShortcutId } | { pending: string } | null {
  const wanted = pending === null ? press : `${pending} ${press}`;
  const inScope = SHORTCUTS.filter((shortcut) => shortcut.scope === scope);
  const exact = inScope.find((shortcut) => (shortcut.keys as readonly string[]).includes(wanted));
  if (exact) return { id: exact.id };
  if (pending === null) {
    const begins = inScope.some((shortcut) => shortcut.keys.some((keys) => keys.startsWith(`${press} `)));
    if (begins) return { pending: press };
  }
  return null;
}

/** Whether keys belong to what has the focus, and not to the window. */
export function takesKeys(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.closest("dialog[open]")) return true;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

const PRINTED: Record<string, string> = {
  arrowleft: "←",
  arrowright: "→",
  home: "Home",
  end: "End",
  shift: "Shift",
  alt: "Alt",
};

/** `mod+j` as it is printed on this machine's keyboard. */
export function printKeys(keys: string, mac = navigator.platform.startsWith("Mac")): string[] {
  return keys
    .split(/[ ]|\+(?=.)/)
    .map((part) => (part === "mod" ? (mac ? "⌘" : "Ctrl") : (PRINTED[part] ?? part.toUpperCase())));
}
