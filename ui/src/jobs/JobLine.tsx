import { Link } from "@tanstack/react-router";
import type { JobSummary } from "../api/bindings";
import { Ago } from "../time/Time";
import { JobStateBadge } from "./JobStateBadge";
import { phaseTitle } from "./journal";

/** Where a job is watched: restores and demos have screens of their own. */
export function jobPath(job: Pick<JobSummary, "id" | "kind">): string {
  const id = encodeURIComponent(job.id);
  if (job.kind === "restore") return `/restore/${id}`;
  if (job.kind === "demo") return `/demo/${id}`;
  return `/job/${id}`;
}

export function JobLine({ job }: { job: JobSummary }) {
  return (
    <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
      <Link to={jobPath(job)} className="min-w-0 font-medium break-words text-accent hover:underline">
        {job.title}
      </Link>
      <JobStateBadge state={job.state} />
      <span className="w-full text-small text-ink-3">
        {job.phase && job.state === "running" ? `${phaseTitle(job.phase)} · ` : ""}
        started <Ago value={job.created_at} />
      </span>
    </div>
  );
}
