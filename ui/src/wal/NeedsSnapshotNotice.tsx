import { TriangleAlert } from "lucide-react";
import type { NeedsSnapshot } from "../api/bindings";

/** That the newest WAL cannot be restored before there is a new backup, and why. */
export function NeedsSnapshotNotice({ needs }: { needs: NeedsSnapshot }) {
  return (
    <div
      role="status"
      className="flex gap-3 rounded-lg border border-degraded/40 bg-degraded-soft px-4 py-3 text-ink"
    >
      <TriangleAlert aria-hidden className="mt-0.5 size-5 shrink-0 text-degraded" />
      <div className="min-w-0">
        <p className="font-semibold">A new backup is needed</p>
        <p className="break-words text-ink-2">{needs.message}</p>
      </div>
    </div>
  );
}
