import { useParams } from "@tanstack/react-router";
import { useAnswer } from "../api/queries";
import { MakeBundle } from "../copies/MakeBundle";
import { Replicas } from "../copies/Replicas";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { DeletionQueue } from "./DeletionQueue";
import { Holds } from "./Holds";
import { PlanNow } from "./PlanNow";
import { PolicyEditor } from "./PolicyEditor";
import { planRequest } from "./request";

/** What is kept of a cluster, why, where the copies are, and when the rest goes. */
export function PoliciesScreen() {
  const { cluster } = useParams({ from: "/c/$cluster/policies" });
  const plan = useAnswer("retention_plan", planRequest(cluster));
  return (
    <Page
      title={`Policies of ${cluster}`}
      intro="What is kept, for how long, where else, and when the rest goes. Nothing is removed by looking."
    >
      {plan.isPending && <Waiting what="what is kept" />}
      {plan.error && (
        <Problem error={plan.error} title="What is kept could not be read" onRetry={() => plan.refetch()} />
      )}
      <div className="space-y-4">
        {plan.data && <PolicyEditor key={plan.data.plan.policy.version} cluster={cluster} now={plan.data} />}
        <Holds cluster={cluster} />
        {plan.data && (
          <>
            <PlanNow outline={plan.data} />
            <DeletionQueue cluster={cluster} />
          </>
        )}
        <Replicas cluster={cluster} />
        <MakeBundle cluster={cluster} />
      </div>
    </Page>
  );
}
