/** A time read strictly: an instant, or a statement of why it is none. */
export type ParsedTime =
  | { ok: true /** RFC 3339 in UTC, with every digit that was given. */; utc: string; millis: number }
  | { ok: false; reason: "empty" | "format" | "range" }
  | { ok: false; reason: "zone" /** The wall-clock time that lacks an offset. */; wall: Wall };

export interface Wall {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  /** Digits after the decimal point, as written; at most nine. */
  fraction: string;
}

const PATTERN =
  /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|z|UTC|utc|[+\-−]\d{2}(?::?\d{2})?)?$/;

function offsetMinutes(text: string): number | null {
  if (/^(z|utc)$/i.test(text)) return 0;
  const sign = text.startsWith("+") ? 1 : -1;
  const digits = text.slice(1).replace(":", "");
  const hours = Number(digits.slice(0, 2));
  const minutes = Number(digits.slice(2) || "0");
  if (hours > 15 || minutes > 59) return null;
  return sign * (hours * 60 + minutes);
}

function inRange(wall: Wall): boolean {
  const days = new Date(Date.UTC(wall.year, wall.month, 0)).getUTCDate();
  return (
    wall.year >= 1970 &&
    wall.month >= 1 &&
    wall.month <= 12 &&
    wall.day >= 1 &&
    wall.day <= days &&
    wall.hour <= 23 &&
    wall.minute <= 59 &&
    wall.second <= 59
  );
}

function wallMillis(wall: Wall): number {
  const millis = Number(wall.fraction.slice(0, 3).padEnd(3, "0"));
  return Date.UTC(wall.year, wall.month - 1, wall.day, wall.hour, wall.minute, wall.second, millis);
}

/** RFC 3339 in UTC for an instant whose digits below the millisecond stand in `fraction`. */
function render(millis: number, fraction: string): string {
  const iso = new Date(millis).toISOString();
  return fraction.length > 3 ? `${iso.slice(0, -1)}${fraction.slice(3)}Z` : iso;
}

/** Reads `2026-05-04 14:31:58.412 UTC`, RFC 3339 and the like. A time without an offset is refused. */
export function parseTime(text: string): ParsedTime {
  const trimmed = text.trim();
  if (trimmed === "") return { ok: false, reason: "empty" };
  const match = PATTERN.exec(trimmed);
  if (!match) return { ok: false, reason: "format" };
  const [, year, month, day, hour, minute, second, fraction, zone] = match;
  const wall: Wall = {
    year: Number(year),
    month: Number(month),
    day: Number(day),
    hour: Number(hour),
    minute: Number(minute),
    second: Number(second ?? "0"),
    fraction: fraction ?? "",
  };
  if (!inRange(wall)) return { ok: false, reason: "range" };
  if (zone === undefined) return { ok: false, reason: "zone", wall };
  const offset = offsetMinutes(zone);
  if (offset === null) return { ok: false, reason: "range" };
  const millis = wallMillis(wall) - offset * 60_000;
  return { ok: true, utc: render(millis, wall.fraction), millis };
}

/** Why a text is no instant, and how one is written; null when it is one. */
export function timeProblem(text: string): string | null {
  const time = parseTime(text);
  if (time.ok) return null;
  return time.reason === "zone"
    ? "Write the offset too, such as Z for UTC or +02:00."
    : "Write a time as 2026-05-04 14:31:58Z.";
}

/** Reads a wall-clock time as UTC, once somebody has said that it is. */
export function readAsUtc(wall: Wall): string {
  return render(wallMillis(wall), wall.fraction);
}

/**
 * Every instant at which this machine's clock shows the given time: one as a rule, two in the hour
 * that daylight saving repeats, none in the hour it skips.
 */
export function readAsLocal(wall: Wall): { utc: string; offset: string }[] {
  const naive = wallMillis(wall);
  const found = new Map<number, { utc: string; offset: string }>();
  for (const probe of [naive - 26 * 3_600_000, naive, naive + 26 * 3_600_000]) {
    const offset = -new Date(probe).getTimezoneOffset();
    const millis = naive - offset * 60_000;
    if (-new Date(millis).getTimezoneOffset() === offset) {
      found.set(millis, { utc: render(millis, wall.fraction), offset: formatOffset(offset) });
    }
  }
  return [...found.entries()].sort(([a], [b]) => a - b).map(([, reading]) => reading);
}

/** `+05:45`, `-03:30`; minutes east of Greenwich. */
export function formatOffset(minutes: number): string {
  const absolute = Math.abs(minutes);
  const pad = (n: number) => String(n).padStart(2, "0");
  return `${minutes < 0 ? "-" : "+"}${pad(Math.floor(absolute / 60))}:${pad(absolute % 60)}`;
}
