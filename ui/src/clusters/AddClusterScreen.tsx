import { useNavigate } from "@tanstack/react-router";
import { Check } from "lucide-react";
import { type ReactNode, useState } from "react";
import type { ClusterCheck } from "../api/bindings";
import { useWorkspace } from "../api/queries";
import { Button } from "../elements/Button";
import { Page } from "../elements/Page";
import { Waiting } from "../elements/Waiting";
import { NameStep } from "./NameStep";
import { RepositoryStep } from "./RepositoryStep";
import { type Server, ServerStep } from "./ServerStep";

interface StepProps {
  number: number;
  title: string;
  state: "done" | "current" | "waiting";
  summary?: ReactNode;
  onChange?: () => void;
  children: ReactNode;
}

function Step({ number, title, state, summary, onChange, children }: StepProps) {
  return (
    <li
      aria-current={state === "current" ? "step" : undefined}
      className={`card ${state === "waiting" ? "opacity-80" : ""}`}
    >
      <header className="flex flex-wrap items-center gap-x-3 gap-y-1 px-4 py-3">
        <span
          aria-hidden
          className={`inline-flex size-7 shrink-0 items-center justify-center rounded-full text-small font-semibold ${
            state === "waiting" ? "border border-line-strong text-ink-2" : "bg-accent text-on-accent"
          }`}
        >
          {state === "done" ? <Check className="size-4" /> : number}
        </span>
        <h2 className="font-semibold">
          <span className="sr-only">Step {number}: </span>
          {title}
        </h2>
        {state === "done" && <span className="min-w-0 text-small break-all text-ink-2">{summary}</span>}
        {state === "done" && onChange && (
          <Button size="small" className="ml-auto" onClick={onChange}>
            Change<span className="sr-only"> {title.toLowerCase()}</span>
          </Button>
        )}
      </header>
      {state === "current" && <div className="border-t border-line px-4 py-4">{children}</div>}
    </li>
  );
}

/** Where the backups go, which server, whether that works, and what it is called. */
export function AddClusterScreen() {
  const workspace = useWorkspace();
  const navigate = useNavigate();
  const [step, setStep] = useState(1);
  const [repository, setRepository] = useState<{ id: string; url: string } | null>(null);
  const [server, setServer] = useState<Server | null>(null);
  const [check, setCheck] = useState<ClusterCheck | null>(null);
  const stateOf = (number: number) => (number < step ? "done" : number === step ? "current" : "waiting");

  if (!workspace.data) {
    return <Page title="Add a cluster">{workspace.isPending && <Waiting what="the workspace" />}</Page>;
  }
  return (
    <Page
      title="Add a cluster"
      intro="Adding it changes nothing on the server. The first backup then makes one replication slot there, so that the server keeps its WAL until it is stored."
    >
      <ol className="max-w-3xl space-y-3">
        <Step
          number={1}
          title="Repository"
          state={stateOf(1)}
          summary={repository?.url}
          onChange={() => setStep(1)}
        >
          <RepositoryStep
            workspace={workspace.data}
            onChosen={(chosen) => {
              setRepository(chosen);
              setStep(2);
            }}
          />
        </Step>
        <Step number={2} title="Server" state={stateOf(2)} summary={server?.dsn} onChange={() => setStep(2)}>
          <ServerStep
            known={server}
            onChecked={(checkedServer, found) => {
              setServer(checkedServer);
              setCheck(found);
              setStep(3);
            }}
          />
        </Step>
        <Step number={3} title="What was found, and a name" state={stateOf(3)}>
          {server && check && repository && (
            <NameStep
              server={server}
              check={check}
              repository={repository}
              taken={workspace.data.clusters.map((each) => each.name)}
              onCheckAgain={() => setStep(2)}
              onAdded={() => {
                // The password has served its purpose; nothing of the form is kept.
                setServer(null);
                void navigate({ to: "/overview" });
              }}
            />
          )}
        </Step>
      </ol>
    </Page>
  );
}
