import { useParams, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Timeline } from "../api/bindings";
import { ButtonLink } from "../elements/Button";
import { Notice } from "../elements/Notice";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Nothing, Waiting } from "../elements/Waiting";
import { Time } from "../time/Time";
import { coverageOfTimeline } from "../wal/coverage";
import { TimelineView } from "./TimelineView";
import { useTimeline } from "./useTimeline";

/** How new the picture is, where it is not as new as it could be. */
function Reading({ timeline }: { timeline: Timeline }) {
  if (timeline.problem)
    return (
      <div className="mb-4">
        <Problem error={timeline.problem} title="The repository could not be read again">
          {timeline.read_at ? (
            <p>
              What is shown was read at <Time value={timeline.read_at} digits={0} />. Newer commits and
              snapshots may exist.
            </p>
          ) : (
            <p>What is shown is what this machine remembers of it.</p>
          )}
        </Problem>
      </div>
    );
  if (timeline.read_at !== null) return null;
  return (
    <div className="mb-4">
      <Notice status>
        This is what this machine remembers. The repository is being read; what is newest may still be
        missing.
      </Notice>
    </div>
  );
}

/** Everything a cluster can be brought back to, and the picker for one commit of it. */
export function TimelineScreen() {
  const { cluster } = useParams({ from: "/c/$cluster/timeline" });
  const { tli } = useSearch({ from: "/c/$cluster/timeline" });
  const way = tli === undefined ? null : Number(tli);
  const all = useTimeline(cluster, null, way);
  const coverage = useMemo(() => (all.data ? coverageOfTimeline(all.data) : null), [all.data]);
  return (
    <Page
      title={`Timeline of ${cluster}`}
      width="wide"
      intro="What is stored, and the exact commit to go back to. Selecting changes nothing."
    >
      {all.error && (
        <div className="mb-4">
          <Problem error={all.error} title="The timeline could not be read" onRetry={() => all.refetch()} />
        </div>
      )}
      {all.isPending && <Waiting what="the timeline" />}
      {all.data && <Reading timeline={all.data} />}
      {all.data && coverage === null && (
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
      {all.data && coverage && (
        <TimelineView
          key={`${cluster} ${tli ?? ""}`}
          cluster={cluster}
          way={way}
          all={all.data}
          coverage={coverage}
        />
      )}
    </Page>
  );
}
