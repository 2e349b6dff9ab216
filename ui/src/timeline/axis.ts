import { scaleTime, scaleUtc } from "d3-scale";
import {
  timeDay,
  timeHour,
  timeMinute,
  timeMonth,
  timeSecond,
  timeYear,
  utcDay,
  utcHour,
  utcMinute,
  utcMonth,
  utcSecond,
  utcYear,
} from "d3-time";
import { formatTime, type Zone } from "../time/format";
import type { Span } from "../wal/coverage";

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const INTERVALS = {
  utc: { second: utcSecond, minute: utcMinute, hour: utcHour, day: utcDay, month: utcMonth, year: utcYear },
  local: {
    second: timeSecond,
    minute: timeMinute,
    hour: timeHour,
    day: timeDay,
    month: timeMonth,
    year: timeYear,
  },
} as const;

export interface Tick {
  time: number;
  label: string;
  /** Begins something larger than the ticks around it. */
  strong: boolean;
}

function label(date: Date, zone: Zone): { label: string; strong: boolean } {
  const units = INTERVALS[zone];
  const text = formatTime(date.toISOString(), zone) ?? "";
  const clock = text.slice(11);
  if (units.second.floor(date) < date) return { label: clock.slice(6, 12), strong: false };
  if (units.minute.floor(date) < date) return { label: clock.slice(0, 8), strong: false };
  if (units.day.floor(date) < date) return { label: clock.slice(0, 5), strong: false };
  const month = MONTHS[Number(text.slice(5, 7)) - 1] ?? "";
  if (units.month.floor(date) < date) return { label: `${month} ${Number(text.slice(8, 10))}`, strong: true };
  if (units.year.floor(date) < date) return { label: month, strong: true };
  return { label: text.slice(0, 4), strong: true };
}

/** Round moments of the zone that is shown, about 90 pixels apart. */
export function ticks(view: Span, width: number, zone: Zone): Tick[] {
  const scale = zone === "utc" ? scaleUtc() : scaleTime();
  const count = Math.max(2, Math.floor(width / 95));
  return scale
    .domain([view.from, view.to])
    .ticks(count)
    .map((date) => ({ time: date.getTime(), ...label(date, zone) }));
}
