import { parseTime } from "../time/parse";

/** What a link may carry into a screen. Links navigate and fill in; none of them starts anything. */

export interface TimelineSearch {
  at?: string;
  xid?: string;
  /** How long a stretch is shown: `10m`, `36h`, `250ms`. */
  zoom?: string;
  /** The timeline whose commits are shown; none for the newest. */
  tli?: string;
}

export interface RestoreSearch {
  target?: string;
  exclusive?: "true";
  timeline?: string;
}

const XID = /^\d{1,10}$/;
const TIMELINE = /^[1-9]\d{0,9}$/;
const SPAN = /^(\d{1,9})(ms|s|m|h|d)$/;
const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of `10m` and the like; null when it is no such thing. */
export function readSpan(text: string): number | null {
  const [, count, unit] = SPAN.exec(text) ?? [];
  if (count === undefined || unit === undefined || Number(count) === 0) return null;
  return Number(count) * (UNITS[unit] ?? 1);
}

/** The same in the largest unit of which there are at least ten, so that little is rounded away. */
export function writeSpan(milliseconds: number): string {
  for (const unit of ["d", "h", "m", "s"] as const) {
    const count = milliseconds / (UNITS[unit] ?? 1);
    if (count >= 10) return `${Math.round(count)}${unit}`;
  }
  return `${Math.max(1, Math.round(milliseconds))}ms`;
}

const TARGET =
  /^(latest|immediate|time:.{1,64}|xid:\d{1,10}|lsn:[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}|name:.{1,63})$/;

type Raw = Record<string, unknown>;

export function timelineSearch(raw: Raw): TimelineSearch {
  const found: TimelineSearch = {};
  if (typeof raw.at === "string") {
    const time = parseTime(raw.at);
    if (time.ok) found.at = time.utc;
  }
  if (typeof raw.xid === "string" && XID.test(raw.xid)) found.xid = raw.xid;
  if (typeof raw.zoom === "string" && readSpan(raw.zoom) !== null) found.zoom = raw.zoom;
  if (typeof raw.tli === "string" && TIMELINE.test(raw.tli)) found.tli = raw.tli;
  return found;
}

export function restoreSearch(raw: Raw): RestoreSearch {
  const found: RestoreSearch = {};
  if (typeof raw.target === "string" && TARGET.test(raw.target)) found.target = raw.target;
  if (raw.exclusive === "true" || raw.exclusive === "1") found.exclusive = "true";
  if (typeof raw.timeline === "string" && TIMELINE.test(raw.timeline)) found.timeline = raw.timeline;
  return found;
}

/** `?a=b` as plain strings: a transaction id stays a string and no value is read as JSON. */
export function parseSearch(text: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(text));
}

export function stringifySearch(search: Raw): string {
  const entries = Object.entries(search).filter(([, value]) => value !== undefined && value !== null);
  const text = new URLSearchParams(entries.map(([key, value]) => [key, String(value)])).toString();
  return text === "" ? "" : `?${text}`;
}

const SCREENS: readonly RegExp[] = [
  /^\/overview$/,
  /^\/c\/[^/]{1,128}\/timeline$/,
  /^\/c\/[^/]{1,128}\/restore\/new$/,
  /^\/c\/[^/]{1,128}\/policies$/,
  /^\/restore\/[0-9A-Za-z-]{1,64}$/,
  /^\/jobs$/,
  /^\/job\/[0-9A-Za-z-]{1,64}$/,
  /^\/verify$/,
  /^\/settings$/,
  /^\/repository\/[0-9A-Za-z-]{1,64}$/,
  /^\/clusters\/new$/,
  /^\/demo\/[0-9A-Za-z-]{1,64}$/,
];
const PARAMETERS: ReadonlySet<string> = new Set([
  "at",
  "xid",
  "zoom",
  "tli",
  "target",
  "exclusive",
  "timeline",
]);

/**
 * The path inside the window of `holdfast://v1/…`, or null when the link is not one of ours.
 * User information, ports, fragments, unknown screens and unknown parameters are refused.
 */
export function readDeepLink(link: string): string | null {
  if (link.length > 1024) return null;
  let url: URL;
  try {
    url = new URL(link);
  } catch {
    return null;
  }
  if (url.protocol !== "holdfast:" || url.hostname !== "v1") return null;
  if (url.username || url.password || url.port || url.hash) return null;
  if (/%2f|%5c|%00|\.\./i.test(url.pathname)) return null;
  if (!SCREENS.some((screen) => screen.test(url.pathname))) return null;
  for (const name of url.searchParams.keys()) if (!PARAMETERS.has(name)) return null;
  return `${url.pathname}${url.search}`;
}
