import { useNavigate, useParams } from "@tanstack/react-router";
import { History, Trash2 } from "lucide-react";
import { useState } from "react";
import type { DemoResult, DemoStatus } from "../api/bindings";
import { useAction, useWorkspace } from "../api/queries";
import { Button, ButtonLink } from "../elements/Button";
import { Confirm } from "../elements/Dialog";
import { Mono } from "../elements/Mono";
import { Page, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { CancelJob } from "../jobs/CancelJob";
import { Heartbeat } from "../jobs/Heartbeat";
import { JobOutcome } from "../jobs/JobOutcome";
import { JobStateBadge } from "../jobs/JobStateBadge";
import { JournalLines } from "../jobs/JournalLines";
import { PhaseList, PhaseTable } from "../jobs/Phases";
import { useJob } from "../jobs/useJournal";
import { Verdict } from "../restore/Verdict";
import { Time } from "../time/Time";
import { DemoTables } from "./DemoTables";

function DiscardDemo() {
  const [asking, setAsking] = useState(false);
  const navigate = useNavigate();
  const discard = useAction("demo_discard", () => void navigate({ to: "/overview" }));
  return (
    <>
      <Button icon={Trash2} onClick={() => setAsking(true)}>
        Discard demo workspace…
      </Button>
      {asking && (
        <Confirm
          title="Discard the demo workspace?"
          action="Discard demo workspace"
          look="danger"
          busy={discard.isPending}
          error={discard.error}
          onConfirm={() => discard.mutate({})}
          onClose={() => setAsking(false)}
        >
          <p>
            The demo's private server is stopped; its data, its repository and its restored copies are
            deleted. Your own clusters and repositories are not touched.
          </p>
        </Confirm>
      )}
    </>
  );
}

/** A target that names the disaster itself must leave it out; any other names what shall be kept. */
function namesDisaster({ disaster, suggested_target: target }: DemoStatus): boolean {
  return [`xid:${disaster.xid}`, `lsn:${disaster.lsn}`, `time:${disaster.time}`].includes(target);
}

function Disaster({ demo }: { demo: DemoStatus }) {
  return (
    <Section title="The disaster">
      <p className="text-ink-2">
        A DELETE without a WHERE was committed as transaction{" "}
        <Mono value={demo.disaster.xid} copy="transaction id" /> at{" "}
        <Time value={demo.disaster.time} digits={6} />. Everything up to the transaction before it is in the
        repository.
      </p>
      <div className="mt-3">
        <ButtonLink
          to="/c/$cluster/restore/new"
          params={{ cluster: demo.cluster }}
          search={{
            target: demo.suggested_target,
            exclusive: namesDisaster(demo) ? "true" : undefined,
          }}
          look="primary"
          icon={History}
        >
          Restore to just before the DELETE…
        </ButtonLink>
      </div>
    </Section>
  );
}

function Outcome({ result }: { result: DemoResult }) {
  const phases = Object.entries(result.seconds)
    .filter((entry): entry is [string, number] => typeof entry[1] === "number")
    .map(([name, seconds]) => ({ name, seconds, bytes: null }));
  return (
    <>
      {result.restore && <Verdict verified={result.restore.verified} checks={result.restore.checks} />}
      {phases.length > 0 && (
        <Section title="Time">
          <PhaseTable phases={phases} />
        </Section>
      )}
    </>
  );
}

/** The rehearsal: a private server, a backup, a disaster, and the way back. */
export function DemoScreen() {
  const { job: id } = useParams({ from: "/demo/$job" });
  const { detail, journal, ended } = useJob(id);
  const workspace = useWorkspace();
  const job = detail.data?.job;
  const result = detail.data?.result?.kind === "demo" ? detail.data.result : null;
  const demo = workspace.data?.demo ?? null;
  const tables = demo?.tables ?? result?.tables ?? [];
  if (!job) {
    return (
      <Page title="Demo workspace">
        {detail.error ? (
          <Problem error={detail.error} title="The demo could not be read" onRetry={() => detail.refetch()} />
        ) : (
          <Waiting what="the demo" />
        )}
      </Page>
    );
  }
  return (
    <Page
      title="Demo workspace"
      intro={
        <span className="inline-flex flex-wrap items-center gap-3">
          <strong className="demo-stripes rounded px-2 py-0.5 text-small font-bold tracking-widest">
            <span className="rounded-sm bg-[var(--demo-a)] px-1">DEMO</span>
          </strong>
          <JobStateBadge state={job.state} />
          {!ended && <Heartbeat job={job} journal={journal} />}
        </span>
      }
      actions={
        <>
          <CancelJob job={job} />
          {ended && demo && <DiscardDemo />}
        </>
      }
    >
      <div className="space-y-4">
        <JobOutcome job={job} lastPhase={journal.phases.at(-1)?.name ?? null} />
        {!ended && (
          <p className="max-w-prose text-ink-2">
            A real PostgreSQL is being set up on this machine, backed up and then damaged on purpose. Nothing
            outside its own folder is touched. You may leave this screen; quitting Holdfast stops it.
          </p>
        )}
        {ended && demo && <Disaster demo={demo} />}
        {tables.length > 0 && <DemoTables tables={tables} />}
        {result && <Outcome result={result} />}
        {(!ended || result === null || Object.keys(result.seconds).length === 0) && (
          <Section title="Phases">
            {journal.phases.length === 0 ? (
              <p className="text-ink-3">Waiting for the first phase…</p>
            ) : (
              <PhaseList phases={journal.phases} />
            )}
          </Section>
        )}
        <JournalLines journal={journal} />
      </div>
    </Page>
  );
}
