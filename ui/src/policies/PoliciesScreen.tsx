import { useParams } from "@tanstack/react-router";
import { useAnswer } from "../api/queries";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { DeletionQueue } from "./DeletionQueue";
import { PlanNow } from "./PlanNow";
import { PolicyEditor } from "./PolicyEditor";
import { planRequest } from "./request";

/** What is kept of a cluster, why, and when the rest goes. */
export function PoliciesScreen() {
  const { cluster } = useParams({ from: "/c/$cluster/policies" });
  const plan = useAnswer("retention_plan", planRequest(cluster));
  return (
    <Page
      title={`Policies of ${cluster}`}
      intro="What is kept, for how long, and when the rest goes. Nothing is removed by looking."
    >
      {plan.isPending && <Waiting what="what is kept" />}
      {plan.error && (
        <Problem error={plan.error} title="What is kept could not be read" onRetry={() => plan.refetch()} />
      )}
      {plan.data && (
        <div className="space-y-4">
          <PolicyEditor key={plan.data.plan.policy.version} cluster={cluster} now={plan.data} />
          <PlanNow outline={plan.data} />
          <DeletionQueue cluster={cluster} />
        </div>
      )}
    </Page>
  );
}
