import { Link } from "@tanstack/react-router";
import type { JobSummary } from "../api/bindings";
import { useAnswer } from "../api/queries";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Nothing, Waiting } from "../elements/Waiting";
import { Duration, Time } from "../time/Time";
import { jobPath } from "./JobLine";
import { JobStateBadge } from "./JobStateBadge";
import { phaseTitle } from "./journal";

function seconds(job: JobSummary): number | null {
  if (job.finished_at === null) return null;
  return (Date.parse(job.finished_at) - Date.parse(job.created_at)) / 1000;
}

const KINDS: Record<JobSummary["kind"], string> = {
  backup: "Backup",
  archive: "WAL archiving",
  restore: "Restore",
  verify: "Verification",
  bundle: "Bundle",
  replication: "Replication",
  rekey: "Re-encryption",
  retention: "Retention",
  demo: "Demo",
  rescue: "Table rescue",
};

function JobRow({ job }: { job: JobSummary }) {
  return (
    <li className="grid gap-x-4 gap-y-1 px-4 py-3 sm:grid-cols-[7.5rem_minmax(0,1fr)] lg:grid-cols-[7.5rem_minmax(0,1fr)_auto_6rem] lg:items-center">
      <div>
        <JobStateBadge state={job.state} />
      </div>
      <div className="min-w-0">
        <Link to={jobPath(job)} className="font-medium break-words text-accent hover:underline">
          {job.title}
        </Link>
        <p className="text-small break-words text-ink-2">
          {KINDS[job.kind]}
          {job.cluster ? ` · ${job.cluster}` : ""}
          {job.state === "running" && job.phase ? ` · ${phaseTitle(job.phase)}` : ""}
          {job.state !== "running" && job.resumable ? " · can be resumed" : ""}
        </p>
        {job.error && job.state === "failed" && (
          <p className="mt-0.5 text-small break-words text-broken">{job.error.message}</p>
        )}
      </div>
      <div className="text-small text-ink-2 sm:col-start-2 lg:col-start-auto">
        <span className="lg:sr-only">Started </span>
        <Time value={job.created_at} digits={0} />
      </div>
      <div className="text-small text-ink-2 sm:col-start-2 lg:col-start-auto lg:text-right">
        {job.paused ? (
          "paused"
        ) : job.state === "running" ? (
          "in progress"
        ) : (
          <>
            <span className="lg:sr-only">Took </span>
            <Duration seconds={seconds(job)} />
          </>
        )}
      </div>
    </li>
  );
}

export function JobsScreen() {
  const jobs = useAnswer("jobs_list", {}, { every: 5_000 });
  return (
    <Page
      title="Jobs"
      intro="Everything this machine has run, newest first. A job's journal stays on disk, whatever happens to the window."
    >
      {jobs.error && (
        <Problem error={jobs.error} title="The jobs could not be read" onRetry={() => jobs.refetch()} />
      )}
      {jobs.isPending && <Waiting what="the jobs" />}
      {jobs.data?.length === 0 && (
        <Nothing title="No job has run yet">A backup, a restore or the demo will appear here.</Nothing>
      )}
      {jobs.data && jobs.data.length > 0 && (
        <ul aria-label="Jobs" className="card divide-y divide-line">
          {jobs.data.map((job) => (
            <JobRow key={job.id} job={job} />
          ))}
        </ul>
      )}
    </Page>
  );
}
