import { formatOffset } from "./parse";

export type Zone = "utc" | "local";

const pad = (n: number, width = 2) => String(n).padStart(width, "0");

/** Digits below the second as the engine gave them, cut (never rounded) to the wanted number. */
function fractionOf(value: string, digits: number): string {
  const found = /\.(\d+)/.exec(value)?.[1] ?? "";
  return found.padEnd(digits, "0").slice(0, digits);
}

export interface TimeFormat {
  /** Digits after the decimal point of the second. */
  digits?: 0 | 3 | 6;
}

/** `2026-05-04 14:31:58.412 UTC`, or the same with this machine's offset. Null when it is no time. */
export function formatTime(value: string, zone: Zone, { digits = 3 }: TimeFormat = {}): string | null {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return null;
  const tail = digits === 0 ? "" : `.${fractionOf(value, digits)}`;
  if (zone === "utc") {
    const day = `${date.getUTCFullYear()}-${pad(date.getUTCMonth() + 1)}-${pad(date.getUTCDate())}`;
    const clock = `${pad(date.getUTCHours())}:${pad(date.getUTCMinutes())}:${pad(date.getUTCSeconds())}`;
    return `${day} ${clock}${tail} UTC`;
  }
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return `${day} ${clock}${tail} ${formatOffset(-date.getTimezoneOffset())}`;
}

/** `3 s`, `4 min 12 s`, `2 h 5 min`, `3 d 4 h`. */
export function formatDuration(seconds: number): string {
  const sign = seconds < 0 ? "−" : "";
  const total = Math.abs(seconds);
  if (total === 0) return "0 s";
  if (total < 0.001) return `${sign}${(total * 1000).toFixed(2)} ms`;
  if (total < 0.1) return `${sign}${Math.round(total * 1000)} ms`;
  if (total < 1) return `${sign}${total.toFixed(1)} s`;
  if (total < 10 && !Number.isInteger(total)) return `${sign}${total.toFixed(1)} s`;
  const whole = Math.round(total);
  if (whole < 60) return `${sign}${whole} s`;
  if (whole < 3600) return `${sign}${join(Math.floor(whole / 60), "min", whole % 60, "s")}`;
  const minutes = Math.round(whole / 60);
  if (minutes < 24 * 60) return `${sign}${join(Math.floor(minutes / 60), "h", minutes % 60, "min")}`;
  const hours = Math.round(minutes / 60);
  return `${sign}${join(Math.floor(hours / 24), "d", hours % 24, "h")}`;
}

function join(major: number, majorUnit: string, minor: number, minorUnit: string): string {
  return minor === 0 ? `${major} ${majorUnit}` : `${major} ${majorUnit} ${minor} ${minorUnit}`;
}

/** Seconds from one time to another, down to the microsecond that commit times have. */
export function secondsBetween(from: string, to: string): number {
  const micros = (value: string) => Number(fractionOf(value, 6).slice(3));
  return (Date.parse(to) - Date.parse(from)) / 1000 + (micros(to) - micros(from)) / 1e6;
}

/** `23 s ago`, `in 4 min`. */
export function formatAge(value: string, now: number): string | null {
  const at = Date.parse(value);
  if (Number.isNaN(at)) return null;
  const seconds = Math.round((now - at) / 1000);
  return seconds >= 0 ? `${formatDuration(seconds)} ago` : `in ${formatDuration(-seconds)}`;
}
