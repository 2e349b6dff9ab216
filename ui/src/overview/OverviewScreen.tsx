import { Plus } from "lucide-react";
import type { ClusterOverview } from "../api/bindings";
import { useAnswer, useWorkspace } from "../api/queries";
import { ButtonLink } from "../elements/Button";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { WORST_FIRST } from "../elements/StateBadge";
import { Waiting } from "../elements/Waiting";
import { ClusterCard } from "./ClusterCard";
import { FirstRun } from "./FirstRun";

/** Whoever needs somebody stands first; among equals the name decides, so that nothing jumps about. */
export function worstFirst(clusters: readonly ClusterOverview[]): ClusterOverview[] {
  return [...clusters].sort(
    (a, b) =>
      WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state) ||
      Number(b.problem !== null) - Number(a.problem !== null) ||
      b.gaps - a.gaps ||
      a.cluster.name.localeCompare(b.cluster.name),
  );
}

export function OverviewScreen() {
  const workspace = useWorkspace();
  const overview = useAnswer("overview", {}, { every: 10_000 });
  const clusters = overview.data;
  if (workspace.data && clusters?.length === 0 && workspace.data.clusters.length === 0) {
    return <FirstRun workspace={workspace.data} />;
  }
  return (
    <Page
      title="Overview"
      intro="What each cluster can be brought back to, computed from what is in its repository. The worst comes first."
      actions={
        <ButtonLink to="/clusters/new" icon={Plus}>
          Add a cluster
        </ButtonLink>
      }
    >
      {overview.error && (
        <div className="mb-4">
          <Problem
            error={overview.error}
            title="The clusters could not be read"
            onRetry={() => overview.refetch()}
          />
        </div>
      )}
      {overview.isPending && <Waiting what="the clusters" />}
      {clusters && (
        <ul aria-label="Clusters" className="space-y-4">
          {worstFirst(clusters).map((entry) => (
            <li key={entry.cluster.name}>
              <ClusterCard entry={entry} workspace={workspace.data} />
            </li>
          ))}
        </ul>
      )}
    </Page>
  );
}
