import { useParams } from "@tanstack/react-router";
import { useAnswer } from "../api/queries";
import { ButtonLink } from "../elements/Button";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Nothing, Waiting } from "../elements/Waiting";
import { coverageOf } from "../wal/coverage";
import { TimelineView } from "./TimelineView";

/** Everything a cluster can be brought back to, and the picker for one commit of it. */
export function TimelineScreen() {
  const { cluster } = useParams({ from: "/c/$cluster/timeline" });
  const points = useAnswer("points", { cluster, from: null, to: null }, { every: 15_000 });
  const coverage = points.data ? coverageOf(points.data) : null;
  return (
    <Page
      title={`Timeline of ${cluster}`}
      width="wide"
      intro="What is stored, and the exact commit to go back to. Selecting changes nothing."
    >
      {points.error && (
        <div className="mb-4">
          <Problem
            error={points.error}
            title="The timeline could not be read"
            onRetry={() => points.refetch()}
          />
        </div>
      )}
      {points.isPending && <Waiting what="the timeline" />}
      {points.data && coverage === null && (
        <Nothing title="Nothing is stored yet">
          <p>
            The first backup puts a snapshot here, and archiving adds every commit after it. Until then this
            cluster cannot be restored.
          </p>
          <ButtonLink to="/overview" look="primary">
            Back it up from the overview
          </ButtonLink>
        </Nothing>
      )}
      {points.data && coverage && (
        <TimelineView key={cluster} cluster={cluster} points={points.data} coverage={coverage} />
      )}
    </Page>
  );
}
