import { useParams } from "@tanstack/react-router";
import { ButtonLink } from "../elements/Button";
import { Mono } from "../elements/Mono";
import { Facts, Page, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { Time } from "../time/Time";
import { CancelJob } from "./CancelJob";
import { Heartbeat } from "./Heartbeat";
import { JobOutcome } from "./JobOutcome";
import { JobResults } from "./JobResults";
import { JobStateBadge } from "./JobStateBadge";
import { JournalLines } from "./JournalLines";
import { PhaseList } from "./Phases";
import { useJob } from "./useJournal";

/** A backup, a WAL stream or a verification: live while it runs, its record afterwards. */
export function JobScreen() {
  const { job: id } = useParams({ from: "/job/$job" });
  const { detail, journal, ended } = useJob(id);
  const job = detail.data?.job;
  if (detail.error && !job) {
    return (
      <Page title="Job">
        <Problem error={detail.error} title="The job could not be read" onRetry={() => detail.refetch()} />
      </Page>
    );
  }
  if (!detail.data || !job)
    return (
      <Page title="Job">
        <Waiting what="the job" />
      </Page>
    );
  const ownScreen = job.kind === "restore" || job.kind === "demo";
  return (
    <Page
      title={job.title}
      intro={
        <span className="inline-flex flex-wrap items-center gap-3">
          <JobStateBadge state={job.state} />
          {!ended && <Heartbeat job={job} journal={journal} />}
        </span>
      }
      actions={
        <>
          {ownScreen && (
            <ButtonLink to={job.kind === "demo" ? "/demo/$job" : "/restore/$job"} params={{ job: job.id }}>
              Open its own screen
            </ButtonLink>
          )}
          <CancelJob job={job} />
        </>
      }
    >
      <div className="space-y-4">
        <JobOutcome job={job} lastPhase={journal.phases.at(-1)?.name ?? null} />
        <div className="grid items-start gap-4 lg:grid-cols-[minmax(0,1fr)_20rem]">
          <div className="min-w-0 space-y-4">
            {(!ended || job.state !== "succeeded") && (
              <Section
                title="Progress"
                aside={!ended && "You may leave this screen. Quitting Holdfast stops the jobs it started."}
              >
                {journal.phases.length === 0 ? (
                  <p className="text-ink-3">
                    {ended ? "No phase was begun." : "Waiting for its first phase…"}
                  </p>
                ) : (
                  <PhaseList phases={journal.phases} />
                )}
              </Section>
            )}
            <JobResults detail={detail.data} />
            <JournalLines journal={journal} />
          </div>
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
      </div>
    </Page>
  );
}
