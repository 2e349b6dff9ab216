import { TriangleAlert } from "lucide-react";
import { Time } from "../time/Time";
import type { JournalView } from "./journal";

/** What the job wrote down, newest last. */
export function JournalLines({ journal }: { journal: JournalView }) {
  if (journal.lines.length === 0) return null;
  const warnings = journal.lines.filter((line) => line.kind === "warning" || line.kind === "alert").length;
  return (
    <details className="card px-4 py-2.5" open={warnings > 0 || undefined}>
      <summary className="font-semibold">
        Journal{" "}
        <span className="font-normal text-ink-3">
          {journal.lines.length} {journal.lines.length === 1 ? "line" : "lines"}
          {warnings > 0 ? `, ${warnings} ${warnings === 1 ? "warning" : "warnings"}` : ""}
        </span>
      </summary>
      {journal.dropped > 0 && (
        <p className="mt-2 text-small text-ink-3">{journal.dropped} earlier lines are left out here.</p>
      )}
      <ol className="mt-2 space-y-1 text-small">
        {journal.lines.map((line) => (
          <li key={line.seq} className="grid gap-x-3 sm:grid-cols-[auto_minmax(0,1fr)]">
            <span className="text-ink-3">
              <Time value={line.at} />
            </span>
            <span className={`break-words ${line.kind === "log" ? "" : "font-medium"}`}>
              {(line.kind === "warning" || line.kind === "alert") && (
                <span className="mr-1.5 inline-flex items-center gap-1 text-degraded">
                  <TriangleAlert aria-hidden className="size-3.5" />
                  Warning:
                </span>
              )}
              {line.message}
            </span>
          </li>
        ))}
      </ol>
    </details>
  );
}
