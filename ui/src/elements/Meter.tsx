interface MeterProps {
  label: string;
  done: number | null;
  total: number | null;
}

/** Progress of a phase. Without a known total it only says that something moves. */
export function Meter({ label, done, total }: MeterProps) {
  const known = done !== null && total !== null && total > 0;
  const part = known ? Math.min(1, done / total) : 0;
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={known ? 0 : undefined}
      aria-valuemax={known ? 100 : undefined}
      aria-valuenow={known ? Math.floor(part * 100) : undefined}
      aria-valuetext={known ? undefined : "in progress, total unknown"}
      className="h-1.5 overflow-hidden rounded-full bg-line"
    >
      {known ? (
        <div className="h-full rounded-full bg-accent" style={{ width: `${part * 100}%` }} />
      ) : (
        <div className="indeterminate h-full" />
      )}
    </div>
  );
}
