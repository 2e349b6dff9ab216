import { useNavigate } from "@tanstack/react-router";
import type { Timeline } from "../api/bindings";

/** The timelines there are, where there is more than one. */
export function BranchChoice({ all, way }: { all: Timeline; way: number | null }) {
  const navigate = useNavigate({ from: "/c/$cluster/timeline" });
  if (all.branches.length < 2) return null;
  const newest = all.branches.at(-1)?.timeline;
  return (
    <label className="flex items-center gap-1.5 text-small text-ink-2">
      Commits of timeline
      <select
        value={way ?? ""}
        onChange={({ target }) =>
          void navigate({ search: target.value === "" ? {} : { tli: target.value }, replace: true })
        }
        className="min-h-7 rounded-md border border-line-strong bg-surface px-2 text-ink"
      >
        <option value="">{newest}, the newest</option>
        {all.branches
          .filter((branch) => branch.timeline !== newest && !branch.ancestry_missing)
          .map((branch) => (
            <option key={branch.timeline} value={branch.timeline}>
              {branch.timeline}
            </option>
          ))}
      </select>
    </label>
  );
}
