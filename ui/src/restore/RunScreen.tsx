import { useParams } from "@tanstack/react-router";
import type { JobDetail } from "../api/bindings";
import { ButtonLink } from "../elements/Button";
import { findingsIn } from "../elements/Findings";
import { Mono } from "../elements/Mono";
import { Facts, Page, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { CancelJob } from "../jobs/CancelJob";
import { Heartbeat } from "../jobs/Heartbeat";
import { JobOutcome } from "../jobs/JobOutcome";
import { JobStateBadge } from "../jobs/JobStateBadge";
import { JournalLines } from "../jobs/JournalLines";
import type { JournalView } from "../jobs/journal";
import { PhaseList } from "../jobs/Phases";
import { useJob } from "../jobs/useJournal";
import { Time } from "../time/Time";
import { PauseRestore } from "./PauseRestore";
import { ReplayClock } from "./ReplayClock";
import { RunResult } from "./RunResult";
import { SetAsideCard } from "./SetAsideCard";
import { Verdict } from "./Verdict";

function Content({ detail, journal, ended }: { detail: JobDetail; journal: JournalView; ended: boolean }) {
  const { job } = detail;
  const result = detail.result?.kind === "restore" ? detail.result : null;
  const failedChecks = findingsIn(job.error?.details, "checks");
  return (
    <div className="space-y-4">
      <JobOutcome job={job} lastPhase={journal.phases.at(-1)?.name ?? null} />
      {failedChecks.length > 0 && <Verdict verified={false} checks={failedChecks} />}
      {ended && job.state === "succeeded" && result === null && (
        <Problem
          error={{
            code: "result_missing",
            message: "The job ended well but recorded no result, so it does not count as verified.",
            hint: null,
            retryable: false,
            details: null,
          }}
        />
      )}
      {result && <RunResult result={result} aside={detail.set_aside} />}
      {detail.set_aside && <SetAsideCard job={job} aside={detail.set_aside} />}
      {!ended && <ReplayClock journal={journal} />}
      {(!ended || result === null) && (
        <Section
          title="Phases"
          aside={!ended && "You may leave this screen. Quitting Holdfast stops the jobs it started."}
        >
          {journal.phases.length === 0 ? (
            <p className="text-ink-3">{ended ? "No phase was begun." : "Waiting for its first phase…"}</p>
          ) : (
            <PhaseList phases={journal.phases} />
          )}
        </Section>
      )}
      <JournalLines journal={journal} />
      <Section title="Job">
        <Facts
          rows={[
            ["Cluster", job.cluster ?? "none"],
            ["Started", <Time key="s" value={job.created_at} both digits={0} />],
            [
              "Ended",
              job.state === "running" ? (
                "still running"
              ) : (
                <Time key="e" value={job.finished_at} both digits={0} />
              ),
            ],
            ["Id", <Mono key="i" value={job.id} copy="job id" />],
          ]}
        />
      </Section>
    </div>
  );
}

/** A restore as it runs, and what came of it. Opening it again replays its journal from the start. */
export function RunScreen() {
  const { job: id } = useParams({ from: "/restore/$job" });
  const { detail, journal, ended } = useJob(id);
  const job = detail.data?.job;
  if (!detail.data || !job) {
    return (
      <Page title="Restore run">
        {detail.error ? (
          <Problem
            error={detail.error}
            title="The restore could not be read"
            onRetry={() => detail.refetch()}
          />
        ) : (
          <Waiting what="the restore" />
        )}
      </Page>
    );
  }
  return (
    <Page
      title={job.title}
      intro={
        <span className="inline-flex flex-wrap items-center gap-3">
          <JobStateBadge state={job.state} />
          {job.paused ? (
            <span role="status" className="font-semibold text-degraded">
              Paused: nothing is fetched or fed until it is resumed
            </span>
          ) : (
            !ended && <Heartbeat kind={job.kind} journal={journal} />
          )}
        </span>
      }
      actions={
        <>
          {ended && job.cluster && (
            <ButtonLink to="/c/$cluster/timeline" params={{ cluster: job.cluster }}>
              Timeline
            </ButtonLink>
          )}
          <PauseRestore job={job} />
          <CancelJob job={job} />
        </>
      }
    >
      <Content detail={detail.data} journal={journal} ended={ended} />
    </Page>
  );
}
