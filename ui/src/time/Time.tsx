import { Unknown } from "../elements/Unknown";
import { useNow } from "./clock";
import { formatAge, formatDuration, formatTime } from "./format";
import { useZone } from "./zone";

interface TimeProps {
  /** RFC 3339; null when it is not known. */
  value: string | null | undefined;
  /** Also write the other of UTC and local beneath. */
  both?: boolean;
  digits?: 0 | 3 | 6;
  className?: string;
}

/** The only way a time is written: always with its offset, UTC or local as the switch says. */
export function Time({ value, both = false, digits = 3, className = "" }: TimeProps) {
  const { zone } = useZone();
  const primary = value ? formatTime(value, zone, { digits }) : null;
  if (!value || primary === null) return <Unknown />;
  if (!both) {
    return (
      <time dateTime={value} className={`whitespace-nowrap ${className}`}>
        {primary}
      </time>
    );
  }
  return (
    <time dateTime={value} className={`inline-flex flex-col whitespace-nowrap ${className}`}>
      <span>{primary}</span>
      <span className="text-small text-ink-3">
        {formatTime(value, zone === "utc" ? "local" : "utc", { digits })}
      </span>
    </time>
  );
}

/** `23 s ago`, moving on by itself. */
export function Ago({ value }: { value: string | null | undefined }) {
  const now = useNow();
  const text = value ? formatAge(value, now) : null;
  if (!value || text === null) return <Unknown />;
  return (
    <time dateTime={value} className="whitespace-nowrap">
      {text}
    </time>
  );
}

export function Duration({ seconds }: { seconds: number | null | undefined }) {
  if (seconds === null || seconds === undefined) return <Unknown />;
  return <span className="whitespace-nowrap">{formatDuration(seconds)}</span>;
}
