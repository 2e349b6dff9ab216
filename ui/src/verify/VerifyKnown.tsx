import { useNavigate } from "@tanstack/react-router";
import { ShieldCheck } from "lucide-react";
import { type FormEvent, useState } from "react";
import type { Depth, WorkspaceStatus } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button, ButtonLink } from "../elements/Button";
import { Choice, Field, Select } from "../elements/Field";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { LEVELS, partProblem } from "./levels";

/** Verifies what this machine knows: the repository of a cluster, and the cluster's snapshots. */
export function VerifyKnown({ workspace }: { workspace: WorkspaceStatus }) {
  const navigate = useNavigate();
  const [cluster, setCluster] = useState(workspace.clusters[0]?.name ?? "");
  const [level, setLevel] = useState<Depth>("data");
  const [part, setPart] = useState("");
  const start = useAction("verify_start", ({ job }) => void navigate({ to: "/job/$job", params: { job } }));
  const wrong = partProblem(part);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (wrong !== null) return;
    start.mutate({ cluster, level, ...(part.trim() === "" ? {} : { sample: part.trim() }) });
  };
  if (workspace.clusters.length === 0)
    return (
      <Section title="A cluster's repository">
        <p className="mb-3 text-ink-2">This machine knows no cluster yet.</p>
        <ButtonLink to="/clusters/new">Add a cluster</ButtonLink>
      </Section>
    );
  return (
    <Section title="A cluster's repository">
      <form onSubmit={submit} noValidate className="space-y-4" aria-label="Verify a cluster's repository">
        <Select
          label="Cluster"
          value={cluster}
          onChange={setCluster}
          options={workspace.clusters.map(({ name }) => ({ value: name, label: name }))}
          hint="Its whole repository is read; its snapshots are judged, and the outcome is kept with them."
        />
        <Choice legend="How deep" value={level} onChange={setLevel} options={LEVELS} />
        <Field
          label="Only a part (optional)"
          placeholder="1/7"
          value={part}
          onChange={setPart}
          error={wrong ?? undefined}
          hint="Another seventh each day reads everything in a week. A part never makes a snapshot verified."
        />
        {start.error && <Problem error={start.error} title="The verification was not started" />}
        <Button type="submit" look="primary" icon={ShieldCheck} busy={start.isPending}>
          Verify {cluster}
        </Button>
      </form>
    </Section>
  );
}
