import { useNavigate } from "@tanstack/react-router";
import { History } from "lucide-react";
import { useState } from "react";
import type { AtTarget, RestorePlan } from "../api/bindings";
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

interface RunPlanProps {
  plan: RestorePlan;
  request: RequestOf<"restore_plan">;
  atTarget: AtTarget;
  demo: boolean;
}

/** The last step: repeats which cluster goes where, and starts exactly the plan that was shown. */
export function RunPlan({ plan, request, atTarget, demo }: RunPlanProps) {
  const [asking, setAsking] = useState(false);
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
          title={`Restore ${plan.cluster} to a new directory?`}
          action={action}
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
          <p>
            The source server is not touched. If the plan no longer holds, the run is refused before it
            writes.
          </p>
        </Confirm>
      )}
    </div>
  );
}
