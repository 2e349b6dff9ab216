import { Link, useNavigate } from "@tanstack/react-router";
import { ChartNoAxesGantt, DatabaseBackup, History, LoaderCircle, Radio } from "lucide-react";
import type { ClusterOverview, JobKind, WorkspaceStatus } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button, ButtonLink } from "../elements/Button";
import { Problem } from "../elements/Problem";
import { phaseTitle } from "../jobs/journal";

interface ClusterActionsProps {
  entry: ClusterOverview;
  workspace: WorkspaceStatus | undefined;
}

/** What can be done for a cluster now. What already runs is linked instead of offered again. */
export function ClusterActions({ entry, workspace }: ClusterActionsProps) {
  const { name } = entry.cluster;
  const navigate = useNavigate();
  const open = (job: string) => void navigate({ to: "/job/$job", params: { job } });
  const backup = useAction("backup_start", ({ job }) => open(job));
  const archive = useAction("archive_start");
  const running = (kind: JobKind) =>
    workspace?.running_jobs.find((job) => job.kind === kind && job.cluster === name);
  const backingUp = running("backup");
  const archiving = running("archive");
  const failure = backup.error ?? archive.error;
  return (
    <footer className="border-t border-line bg-sunken px-4 py-2.5 sm:px-5">
      {failure && (
        <div className="mb-2.5">
          <Problem
            error={failure}
            title={backup.error ? "The backup was not started" : "Archiving was not started"}
          />
        </div>
      )}
      <div className="flex flex-wrap items-center gap-2">
        {backingUp ? (
          <Link
            to="/job/$job"
            params={{ job: backingUp.id }}
            className="inline-flex min-h-9 items-center gap-2 px-1 font-medium text-accent hover:underline"
          >
            <LoaderCircle aria-hidden className="size-4 animate-spin" />
            Backing up{backingUp.phase ? `: ${phaseTitle(backingUp.phase)}` : ""}
          </Link>
        ) : (
          <Button
            look={entry.last_snapshot && !entry.needs_snapshot ? "secondary" : "primary"}
            icon={DatabaseBackup}
            busy={backup.isPending}
            onClick={() => backup.mutate({ cluster: name, reason: null })}
          >
            Back up now
          </Button>
        )}
        {archiving ? (
          <Link
            to="/job/$job"
            params={{ job: archiving.id }}
            className="inline-flex min-h-9 items-center gap-2 px-1 font-medium text-accent hover:underline"
          >
            <Radio aria-hidden className="size-4" />
            Archiving WAL
          </Link>
        ) : (
          !entry.archiving && (
            <Button icon={Radio} busy={archive.isPending} onClick={() => archive.mutate({ cluster: name })}>
              Start archiving
            </Button>
          )
        )}
        <div className="flex flex-wrap gap-2 sm:ml-auto">
          <ButtonLink to="/c/$cluster/timeline" params={{ cluster: name }} icon={ChartNoAxesGantt}>
            Timeline
          </ButtonLink>
          <ButtonLink to="/c/$cluster/restore/new" params={{ cluster: name }} icon={History}>
            Restore…
          </ButtonLink>
        </div>
      </div>
    </footer>
  );
}
