import { ShieldCheck, ShieldX } from "lucide-react";
import type { Finding } from "../api/bindings";
import { Findings } from "../elements/Findings";

/** Whether the engine has checked that the copy is what was asked for. Anything else is not green. */
export function Verdict({ verified, checks }: { verified: boolean; checks: Finding[] }) {
  const Icon = verified ? ShieldCheck : ShieldX;
  return (
    <section
      aria-label="Verdict"
      className={`rounded-lg border ${verified ? "border-proven/50 bg-proven-soft" : "border-broken/50 bg-broken-soft"}`}
    >
      <div className="flex items-start gap-3 px-4 py-3.5">
        <Icon
          aria-hidden
          className={`size-7 shrink-0 ${verified ? "text-proven" : "text-broken"}`}
          strokeWidth={1.75}
        />
        <div>
          <p className={`text-lead font-semibold ${verified ? "text-proven" : "text-broken"}`}>
            {verified ? "Verified" : "NOT VERIFIED"}
          </p>
          <p className="text-ink-2">
            {verified
              ? "The copy was started and checked: it holds every transaction up to the target and none after it."
              : "A copy exists, but it was not shown to be what was asked for. Do not rely on it before you know why."}
          </p>
        </div>
      </div>
      {checks.length > 0 && (
        <div className="rounded-b-lg border-t border-line bg-surface px-4">
          <Findings findings={checks} label="Checks" />
        </div>
      )}
    </section>
  );
}
