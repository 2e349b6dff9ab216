import { memo } from "react";
import type { SnapshotGroup } from "../api/bindings";
import { lookOf, WORST_FIRST } from "../elements/StateBadge";

/** What the shapes in the snapshot lane mean; only those that occur. */
export const StateLegend = memo(function StateLegend({ snapshots }: { snapshots: readonly SnapshotGroup[] }) {
  const states = [...WORST_FIRST]
    .reverse()
    .filter((state) => snapshots.some((group) => group.states.some(([each]) => each === state)));
  if (states.length === 0) return null;
  return (
    <ul
      aria-label="Snapshot states"
      className="mt-3 grid gap-x-6 gap-y-1 md:grid-cols-2 text-small text-ink-2"
    >
      {states.map((state) => {
        const look = lookOf(state);
        return (
          <li key={state} className="inline-flex items-start gap-1.5">
            <look.icon aria-hidden className={`mt-0.5 size-3.5 shrink-0 ${look.text}`} />
            <span>
              <strong className="font-semibold text-ink">{look.word}</strong> {look.meaning}
            </span>
          </li>
        );
      })}
    </ul>
  );
});
