import { useParams, useSearch } from "@tanstack/react-router";
import { useAnswer, useWorkspace } from "../api/queries";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { RestoreForm } from "./RestoreForm";

/** Plans a restore of one cluster, shows the plan, and runs it once somebody has confirmed it. */
export function RestoreScreen() {
  const { cluster } = useParams({ from: "/c/$cluster/restore/new" });
  const search = useSearch({ from: "/c/$cluster/restore/new" });
  const workspace = useWorkspace();
  const points = useAnswer("points", { cluster, from: null, to: null });
  const known = workspace.data?.clusters.some((each) => each.name === cluster);
  return (
    <Page
      title={`Restore ${cluster}`}
      intro="Nothing is written before you confirm the plan. The backups are only read."
    >
      {workspace.data && !known ? (
        <Problem
          error={{
            code: "not_found",
            message: `There is no cluster “${cluster}” in this workspace.`,
            hint: "The link may come from another machine. Add the cluster, or attach its repository in “Add a cluster”.",
            retryable: false,
            details: null,
          }}
        />
      ) : (
        <RestoreForm
          key={`${cluster} ${search.target ?? ""} ${search.exclusive ?? ""} ${search.timeline ?? ""}`}
          cluster={cluster}
          target={search.target}
          exclusive={search.exclusive === "true"}
          line={search.timeline}
          points={points.data}
          demo={workspace.data?.clusters.find((each) => each.name === cluster)?.demo ?? false}
        />
      )}
    </Page>
  );
}
