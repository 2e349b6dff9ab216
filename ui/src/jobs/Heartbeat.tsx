import { HeartPulse, TriangleAlert } from "lucide-react";
import type { JobSummary } from "../api/bindings";
import { useNow } from "../time/clock";
import { formatDuration } from "../time/format";
import { type JournalView, stallAfter } from "./journal";

/** How long ago a running job last said something, and whether that is longer than usual. */
export function Heartbeat({ job, journal }: { job: JobSummary; journal: JournalView }) {
  const now = useNow();
  if (job.paused)
    return (
      <span role="status" className="font-semibold text-degraded">
        Paused: nothing is fetched or fed until it is resumed
      </span>
    );
  if (journal.lastAt === null)
    return <span className="text-small text-ink-3">Nothing heard from it yet</span>;
  const silence = Math.max(0, Math.round((now - Date.parse(journal.lastAt)) / 1000));
  const limit = stallAfter(job.kind, journal);
  if (limit !== null && silence > limit) {
    return (
      <span
        role="status"
        className="inline-flex items-center gap-1.5 rounded-md bg-degraded-soft px-2 py-1 text-small font-semibold text-degraded"
      >
        <TriangleAlert aria-hidden className="size-4" />
        Stalled? No activity for {formatDuration(silence)}, longer than usual
      </span>
    );
  }
  return (
    <span className="inline-flex items-center gap-1.5 text-small text-ink-2">
      <HeartPulse aria-hidden className="breathing size-4 text-accent" />
      Last activity {formatDuration(silence)} ago
    </span>
  );
}
