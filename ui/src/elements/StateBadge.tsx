import {
  CircleCheck,
  CircleDashed,
  Disc3,
  type LucideIcon,
  OctagonX,
  ShieldCheck,
  TriangleAlert,
} from "lucide-react";
import type { SnapshotSummary } from "../api/bindings";

export type RecoverabilityState = SnapshotSummary["state"];

interface StateLook {
  word: string;
  icon: LucideIcon;
  /** What the word promises. */
  meaning: string;
  badge: string;
  text: string;
}

/** Shape, word and colour say the same. Only a proven point is green. */
export const STATES: Record<RecoverabilityState, StateLook> = {
  proven: {
    word: "Proven",
    icon: ShieldCheck,
    meaning: "It was restored, replayed to this point or past it, and checked.",
    badge: "bg-proven-soft text-proven border-proven/40",
    text: "text-proven",
  },
  verified: {
    word: "Verified",
    icon: CircleCheck,
    meaning: "Every byte it needs was read back and authenticated. It was not restored yet.",
    badge: "bg-verified-soft text-verified border-verified/40",
    text: "text-verified",
  },
  stored: {
    word: "Stored",
    icon: Disc3,
    meaning: "It was written and the store confirmed it. It was not read back yet.",
    badge: "bg-stored-soft text-stored border-stored/40",
    text: "text-stored",
  },
  degraded: {
    word: "Degraded",
    icon: TriangleAlert,
    meaning: "It can be restored, within a stated limit.",
    badge: "bg-degraded-soft text-degraded border-degraded/40",
    text: "text-degraded",
  },
  broken: {
    word: "Broken",
    icon: OctagonX,
    meaning: "It cannot be restored as it is.",
    badge: "bg-broken-soft text-broken border-broken/40",
    text: "text-broken",
  },
  unknown: {
    word: "Unknown",
    icon: CircleDashed,
    meaning: "Its state could not be determined, so it does not count as safe.",
    badge: "bg-unknown-soft text-unknown border-dashed border-unknown/60",
    text: "text-unknown",
  },
};

/** From the one that needs somebody first to the one that needs nobody. */
export const WORST_FIRST: readonly RecoverabilityState[] = [
  "broken",
  "unknown",
  "degraded",
  "stored",
  "verified",
  "proven",
];

export function lookOf(state: RecoverabilityState): StateLook {
  return STATES[state] ?? STATES.unknown;
}

export function StateBadge({ state }: { state: RecoverabilityState }) {
  const look = lookOf(state);
  const Icon = look.icon;
  return (
    <span
      className={`inline-flex items-center gap-1.5 rounded-full border px-2 py-0.5 text-small font-semibold whitespace-nowrap ${look.badge}`}
    >
      <Icon aria-hidden className="size-3.5 shrink-0" />
      {look.word}
    </span>
  );
}
