import { RotateCw } from "lucide-react";
import { type FormEvent, useState } from "react";
import type { ClusterCheck } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Bytes } from "../elements/Bytes";
import { Field } from "../elements/Field";
import { Findings } from "../elements/Findings";
import { Mono } from "../elements/Mono";
import { Notice } from "../elements/Notice";
import { Facts } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Unknown } from "../elements/Unknown";
import type { Chosen } from "./RepositoryStep";
import type { Server } from "./ServerStep";
import { nameProblem } from "./validity";

interface NameStepProps {
  server: Server;
  check: ClusterCheck;
  repository: Chosen;
  taken: readonly string[];
  onCheckAgain: () => void;
  onAdded: () => void;
}

function mode(check: ClusterCheck) {
  if (check.mode === "physical") return "physical, any commit";
  if (check.mode === "physical_via_database")
    return "physical, any commit, over an ordinary connection (this server has no replication line)";
  return check.reachable ? <strong className="text-broken">not possible as it is</strong> : <Unknown />;
}

export function NameStep({ server, check, repository, taken, onCheckAgain, onAdded }: NameStepProps) {
  const [fresh, setFresh] = useState(check);
  const [name, setName] = useState("");
  const [tried, setTried] = useState(false);
  const again = useAction("cluster_check", setFresh);
  const add = useAction("cluster_add", onAdded);
  const possible = fresh.mode !== null && !fresh.findings.some((finding) => finding.severity === "error");
  const problem = nameProblem(name, taken);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (problem !== null || !possible) return;
    add.mutate({ name: name.trim(), dsn: server.dsn, password: server.password, repository: repository.id });
  };

  return (
    <div className="space-y-5">
      <Facts
        rows={[
          [
            "Reachable",
            fresh.reachable ? (
              "yes"
            ) : (
              <strong key="n" className="text-broken">
                no
              </strong>
            ),
          ],
          ["Backup", mode(fresh)],
          ["PostgreSQL", fresh.server_version ?? <Unknown key="v" />],
          ["System identifier", <Mono key="s" value={fresh.system_identifier} />],
          ["Timeline", fresh.timeline ?? <Unknown key="t" />],
          ["Size", <Bytes key="b" value={fresh.data_bytes} />],
        ]}
      />
      {fresh.findings.length > 0 && <Findings findings={fresh.findings} label="Findings" />}
      {again.error && <Problem error={again.error} title="The server could not be looked at" />}
      <div className="flex flex-wrap gap-2">
        <Button
          icon={RotateCw}
          busy={again.isPending}
          onClick={() => again.mutate({ dsn: server.dsn, password: server.password })}
        >
          Check again
        </Button>
        <Button look="quiet" onClick={onCheckAgain}>
          Change the connection
        </Button>
      </div>
      {possible ? (
        <form
          onSubmit={submit}
          noValidate
          className="space-y-4 border-t border-line pt-4"
          aria-label="Add the cluster"
        >
          <Field
            label="Name"
            value={name}
            onChange={setName}
            placeholder="orders-eu"
            error={tried ? (problem ?? undefined) : undefined}
            hint="What people call it. It stands in every title, dialog and command."
          />
          {add.error && <Problem error={add.error} title="The cluster was not added" />}
          <Button type="submit" look="primary" busy={add.isPending}>
            {nameProblem(name, taken) === null ? `Add ${name.trim()}` : "Add cluster"}
          </Button>
        </form>
      ) : (
        <Notice status>
          It cannot be backed up yet. Repair what is marked as an error, then check again.
        </Notice>
      )}
    </div>
  );
}
