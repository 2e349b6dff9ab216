import { Unplug } from "lucide-react";
import type { JobSummary } from "../api/bindings";
import { Problem } from "../elements/Problem";
import { phaseTitle } from "./journal";

/** How a job ended when it did not end well; nothing while it runs or when it did. */
export function JobOutcome({ job, lastPhase }: { job: JobSummary; lastPhase: string | null }) {
  const where = lastPhase ? ` while “${phaseTitle(lastPhase)}”` : "";
  if (job.state === "failed") {
    return (
      <Problem
        title={`It failed${where}`}
        error={
          job.error ?? {
            code: "unknown",
            message: "The job recorded no reason.",
            hint: "Its journal below is all there is.",
            retryable: false,
            details: null,
          }
        }
      />
    );
  }
  if (job.state === "cancelled") {
    return (
      <div role="status" className="rounded-lg border border-line-strong/50 bg-stored-soft px-4 py-3">
        <p className="font-semibold">It was cancelled{where}.</p>
        <p className="text-ink-2">What it had done until then is listed below. It has no result.</p>
      </div>
    );
  }
  if (job.state === "interrupted") {
    return (
      <div
        role="status"
        className="flex gap-3 rounded-lg border border-degraded/40 bg-degraded-soft px-4 py-3 text-ink"
      >
        <Unplug aria-hidden className="mt-0.5 size-5 shrink-0 text-degraded" />
        <div>
          <p className="font-semibold">Its process ended without a word{where}.</p>
          <p className="text-ink-2">
            {job.resumable
              ? "What it has written is kept. Resumed, it checks every block of that again and goes on."
              : "Whether its last step was completed is not known. Backups that were complete before stay usable; start the job again to be sure."}
          </p>
        </div>
      </div>
    );
  }
  return null;
}
