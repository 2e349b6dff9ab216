import type { WorkspaceStatus } from "../api/bindings";
import { ButtonLink } from "../elements/Button";
import { Dialog } from "../elements/Dialog";
import { Nothing } from "../elements/Waiting";
import { JobLine } from "../jobs/JobLine";

interface JobsDrawerProps {
  workspace: WorkspaceStatus | undefined;
  onClose: () => void;
}

/** What runs now. A job's record stays on disk and can be opened again. */
export function JobsDrawer({ workspace, onClose }: JobsDrawerProps) {
  const jobs = workspace?.running_jobs ?? [];
  return (
    <Dialog title="Running jobs" onClose={onClose} place="right">
      {jobs.length === 0 ? (
        <Nothing title={workspace ? "Nothing is running" : "Not known yet"} />
      ) : (
        <ul className="divide-y divide-line border-y border-line">
          {jobs.map((job) => (
            <li key={job.id} className="py-2.5">
              <JobLine job={job} />
            </li>
          ))}
        </ul>
      )}
      <div className="mt-4">
        <ButtonLink to="/jobs" size="small">
          All jobs
        </ButtonLink>
      </div>
    </Dialog>
  );
}
