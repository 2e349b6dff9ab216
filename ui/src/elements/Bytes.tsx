import { Unknown } from "./Unknown";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/** `1.42 GiB`: three significant digits, powers of 1024. */
export function formatBytes(bytes: number): string {
  let value = Math.abs(bytes);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${bytes < 0 ? "−" : ""}${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** The only way a size is written. `exact` adds the plain number of bytes. */
export function Bytes({ value, exact = false }: { value: number | null | undefined; exact?: boolean }) {
  if (value === null || value === undefined) return <Unknown />;
  return (
    <data value={value} className="whitespace-nowrap">
      {formatBytes(value)}
      {exact && value >= 1024 && <span className="text-small text-ink-3"> ({formatCount(value)} bytes)</span>}
    </data>
  );
}

/** A whole number with thin spaces between groups of three. */
export function formatCount(value: number): string {
  return Math.trunc(value)
    .toString()
    .replace(/\B(?=(\d{3})+(?!\d))/g, " ");
}

export function Count({ value }: { value: number | null | undefined }) {
  if (value === null || value === undefined) return <Unknown />;
  return <span className="whitespace-nowrap">{formatCount(value)}</span>;
}
