import { useNavigate } from "@tanstack/react-router";
import { FlaskConical, ServerCog } from "lucide-react";
import type { WorkspaceStatus } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button, ButtonLink } from "../elements/Button";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";

function DemoChoice({ workspace }: { workspace: WorkspaceStatus }) {
  const navigate = useNavigate();
  const start = useAction("demo_start", ({ job }) => void navigate({ to: "/demo/$job", params: { job } }));
  const running = workspace.running_jobs.find((job) => job.kind === "demo");
  return (
    <section aria-labelledby="demo-choice" className="card flex flex-col overflow-hidden">
      <div aria-hidden className="demo-stripes h-2" />
      <div className="flex flex-1 flex-col p-6">
        <FlaskConical aria-hidden className="size-7 text-accent" strokeWidth={1.75} />
        <h2 id="demo-choice" className="mt-3 text-title font-semibold tracking-tight">
          Open the demo workspace
        </h2>
        <p className="mt-1.5 text-ink-2">
          A bad day, rehearsed. Holdfast starts a real PostgreSQL on this machine that is thrown away
          afterwards, backs it up, lets a careless DELETE happen, and shows you the way back to the
          transaction before it.
        </p>
        <ul className="mt-3 flex-1 list-disc space-y-1 pl-5 text-ink-2">
          <li>Needs no server and no network.</li>
          <li>Takes about a minute.</li>
          <li>Everything of it is marked DEMO.</li>
        </ul>
        {start.error && (
          <div className="mt-4">
            <Problem error={start.error} title="The demo was not started" />
          </div>
        )}
        <div className="mt-5">
          {running ? (
            <ButtonLink to="/demo/$job" params={{ job: running.id }} look="primary">
              Watch the running demo
            </ButtonLink>
          ) : (
            <Button look="primary" busy={start.isPending} onClick={() => start.mutate({})}>
              Open the demo workspace
            </Button>
          )}
        </div>
      </div>
    </section>
  );
}

/** Nothing is here yet: two ways to begin. */
export function FirstRun({ workspace }: { workspace: WorkspaceStatus }) {
  return (
    <Page
      title="Welcome to Holdfast"
      intro="Holdfast backs PostgreSQL up continuously, finds the exact transaction to go back to, restores to it, and proves that it worked. No cluster is known yet. Begin with either of these."
    >
      <div className="grid gap-5 md:grid-cols-2">
        <DemoChoice workspace={workspace} />
        <section aria-labelledby="add-choice" className="card flex flex-col overflow-hidden">
          <div aria-hidden className="h-2 bg-accent" />
          <div className="flex flex-1 flex-col p-6">
            <ServerCog aria-hidden className="size-7 text-accent" strokeWidth={1.75} />
            <h2 id="add-choice" className="mt-3 text-title font-semibold tracking-tight">
              Add a cluster
            </h2>
            <p className="mt-1.5 text-ink-2">
              Your own PostgreSQL 14 to 18, beside you or far away. Holdfast looks at it first and says what
              is missing, with the exact statement that repairs it. Nothing is changed on the server before
              you add it.
            </p>
            <ul className="mt-3 flex-1 list-disc space-y-1 pl-5 text-ink-2">
              <li>A connection with the right to replicate.</li>
              <li>A place for the backups: a folder, or a bucket.</li>
              <li>Encrypted before it leaves this machine.</li>
            </ul>
            <div className="mt-5">
              <ButtonLink to="/clusters/new" look="secondary">
                Add a cluster
              </ButtonLink>
            </div>
          </div>
        </section>
      </div>
    </Page>
  );
}
