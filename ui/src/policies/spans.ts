import type { Keep } from "../api/bindings";

/** What a policy may keep, in the order in which it is read. */
export const RULES: readonly { key: keyof Keep; label: string; hint: string }[] = [
  {
    key: "any_point",
    label: "Any point in the last",
    hint: "Every transaction of that time can be gone back to.",
  },
  { key: "hourly", label: "A snapshot of each hour for", hint: "The newest of each, by UTC." },
  { key: "daily", label: "A snapshot of each day for", hint: "The newest of each, by UTC." },
  { key: "weekly", label: "A snapshot of each week for", hint: "The newest of each, from Monday." },
  { key: "monthly", label: "A snapshot of each month for", hint: "The newest of each." },
  { key: "yearly", label: "A snapshot of each year for", hint: "The newest of each." },
];

const SPAN = /^[1-9]\d{0,6}(h|d|w|mo|y)$/;

/** Why a length of time cannot be taken; null while it can, or is empty. */
export function spanProblem(text: string): string | null {
  const wanted = text.trim();
  return wanted === "" || SPAN.test(wanted)
    ? null
    : "Write a whole number and h, d, w, mo or y, such as 30d.";
}

export type Draft = Record<keyof Keep, string>;

export function draftOf(keep: Keep): Draft {
  return Object.fromEntries(RULES.map(({ key }) => [key, keep[key] ?? ""])) as Draft;
}

/** What the fields say; null while one of them cannot be taken, or nothing is kept. */
export function keepOf(draft: Draft): Keep | null {
  if (RULES.some(({ key }) => spanProblem(draft[key]) !== null)) return null;
  const keep = Object.fromEntries(
    RULES.map(({ key }) => [key, draft[key].trim() || null]),
  ) as unknown as Keep;
  return RULES.every(({ key }) => keep[key] === null) ? null : keep;
}
