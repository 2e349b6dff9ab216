import { Ban, CircleCheck, LoaderCircle, type LucideIcon, OctagonX, Unplug } from "lucide-react";
import type { JobState } from "../api/bindings";

const LOOKS: Record<JobState, { word: string; icon: LucideIcon; className: string }> = {
  running: { word: "Running", icon: LoaderCircle, className: "bg-accent-soft text-ink border-accent/50" },
  // A job that ended well proves nothing by itself: green is for proven points alone.
  succeeded: { word: "Done", icon: CircleCheck, className: "bg-stored-soft text-stored border-stored/40" },
  failed: { word: "Failed", icon: OctagonX, className: "bg-broken-soft text-broken border-broken/40" },
  cancelled: { word: "Cancelled", icon: Ban, className: "bg-stored-soft text-stored border-stored/40" },
  interrupted: {
    word: "Interrupted",
    icon: Unplug,
    className: "bg-degraded-soft text-degraded border-degraded/40",
  },
};

export function JobStateBadge({ state }: { state: JobState }) {
  const look = LOOKS[state] ?? LOOKS.interrupted;
  return (
    <span
      className={`inline-flex items-center gap-1.5 rounded-full border px-2 py-0.5 text-small font-semibold whitespace-nowrap ${look.className}`}
    >
      <look.icon aria-hidden className={`size-3.5 shrink-0 ${state === "running" ? "animate-spin" : ""}`} />
      {look.word}
    </span>
  );
}
