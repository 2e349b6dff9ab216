import { useNavigate } from "@tanstack/react-router";
import { History } from "lucide-react";
import { useState } from "react";
import type { AtTarget, Placement, RestorePlan } from "../api/bindings";
import type { RequestOf } from "../api/client";
import { useAction, useWorkspace } from "../api/queries";
import { Button } from "../elements/Button";
import { Confirm } from "../elements/Dialog";
import { Mono } from "../elements/Mono";
import { Facts } from "../elements/Page";
import { Time } from "../time/Time";

const AFTERWARDS: Record<AtTarget, string> = {
  pause: "pauses there, readable",
  promote: "is promoted to a writable copy",
  shutdown: "is shut down",
};

const TITLES: Record<Placement, (cluster: string) => string> = {
  new: (cluster) => `Restore ${cluster} to a new directory?`,
  in_place: (cluster) => `Restore ${cluster} in place of this data directory?`,
  delta: (cluster) => `Restore ${cluster} over this data directory?`,
};

const CONSEQUENCES: Record<Placement, string> = {
  new: "The source server is not touched.",
  in_place:
    "The copy is proven before the two change places. The old directory is kept until it is purged, and can be swapped back.",
  delta: "What stands there is overwritten where it differs. There is no way back to it.",
};

interface RunPlanProps {
  plan: RestorePlan;
  request: RequestOf<"restore_plan">;
  atTarget: AtTarget;
  demo: boolean;
}

/** The last step: repeats which cluster goes where, and starts exactly the plan that was shown. */
export function RunPlan({ plan, request, atTarget, demo }: RunPlanProps) {
  const [asking, setAsking] = useState(false);
  const placement = request.placement ?? "new";
  const navigate = useNavigate();
  const workspace = useWorkspace();
  const identifier = workspace.data?.clusters.find((each) => each.name === plan.cluster)?.system_identifier;
  const run = useAction("restore_run", ({ job }) => void navigate({ to: "/restore/$job", params: { job } }));
  const blocked =
    !request.accept_host_differences && plan.host_findings.some((finding) => finding.severity === "error");
  const action = `Restore ${plan.cluster}`;
  return (
    <div className="flex flex-wrap items-center gap-x-4 gap-y-2 rounded-lg border border-line bg-surface px-4 py-3">
      <Button
        look="primary"
        icon={History}
        disabled={blocked}
        onClick={() => setAsking(true)}
        className="min-h-11"
      >
        {action}…
      </Button>
      <span className="text-small text-ink-2">
        {blocked
          ? "A finding above prevents it. Resolve it, or accept the differences under step 2, and plan again."
          : "It asks once more before it starts."}
      </span>
      {asking && (
        <Confirm
          title={TITLES[placement](plan.cluster)}
          action={action}
          look={placement === "new" ? "primary" : "danger"}
          {...(placement === "new"
            ? {}
            : { typed: { text: plan.cluster, label: `Type ${plan.cluster} to restore there` } })}
          busy={run.isPending}
          error={run.error}
          onConfirm={() =>
            run.mutate({
              ...request,
              plan_hash: plan.hash,
              at_target: atTarget,
              start: atTarget !== "shutdown",
            })
          }
          onClose={() => setAsking(false)}
        >
          <Facts
            rows={[
              ["Cluster", `${plan.cluster}${demo ? " (DEMO)" : ""}`],
              ["System identifier", <Mono key="s" value={identifier} />],
              [
                "Target",
                <Mono key="t" value={`${plan.target}${plan.exclusive ? ", stopping before it" : ""}`} />,
              ],
              ["Will hold up to", <Time key="h" value={plan.predicted.commit_time} digits={6} />],
              ["Into", <Mono key="d" value={plan.destination} />],
              ["Then", AFTERWARDS[atTarget]],
            ]}
          />
          <p className={placement === "delta" ? "font-semibold text-broken" : ""}>
            {CONSEQUENCES[placement]}
          </p>
          <p>If the plan no longer holds, the run is refused before it writes.</p>
        </Confirm>
      )}
    </div>
  );
}
