import { Ban } from "lucide-react";
import { useState } from "react";
import type { JobKind, JobSummary } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Confirm } from "../elements/Dialog";

const VERBS: Record<JobKind, string> = {
  backup: "Cancel this backup",
  archive: "Stop archiving",
  restore: "Cancel this restore",
  rescue: "Cancel this rescue",
  verify: "Cancel this verification",
  bundle: "Cancel this bundle",
  replication: "Stop replicating",
  rekey: "Stop re-encrypting",
  retention: "Stop applying retention",
  demo: "Cancel this demo",
};

/** What cancelling leaves behind; nothing here promises more than the engine does. */
const LEAVES: Record<JobKind, string> = {
  backup:
    "No snapshot is made. Data that was already written to the repository stays there, unreferenced, and is reused by the next backup.",
  archive:
    "WAL that is durable in the repository stays. From now on new commits are not protected until archiving starts again; the replication slot keeps the server's WAL for us meanwhile.",
  restore:
    "The source server and the backups are not touched. What was written to a new directory is removed. A data directory that is being overwritten stays as it is now, neither old nor new: resume the restore to finish it.",
  rescue:
    "The private copy is removed and no file is left. A live database is as it was, unless its transaction is being committed at this moment.",
  verify: "Nothing is changed by a verification. What was not read yet stays unverified.",
  bundle: "What was written of the bundle is removed. The repository is not changed.",
  replication:
    "What was copied stays in the replica and is not copied again. Until then the replica is behind; what it names is in it.",
  rekey:
    "What was carried stays in the new repository, and the same command goes on from there. The old repository is as it was, and the clusters stay in it.",
  retention:
    "What is marked stays marked, what is removed stays removed. A removal that was begun goes on when retention is applied again.",
  demo: "The demo's private server is stopped. Its folder may remain until the demo workspace is discarded.",
};

/** Asks whether to stop a job, saying what that leaves behind. It has stopped when its journal says so. */
export function CancelJob({ job }: { job: JobSummary }) {
  const [asking, setAsking] = useState(false);
  const [asked, setAsked] = useState(false);
  const cancel = useAction("job_cancel", () => {
    setAsking(false);
    setAsked(true);
  });
  if (job.state !== "running") return null;
  const verb = VERBS[job.kind];
  return (
    <>
      <Button icon={Ban} onClick={() => setAsking(true)} disabled={asked}>
        {asked ? "Stopping…" : `${verb}…`}
      </Button>
      {asking && (
        <Confirm
          title={`${verb}?`}
          action={verb}
          look="danger"
          busy={cancel.isPending}
          error={cancel.error}
          onConfirm={() => cancel.mutate({ job: job.id })}
          onClose={() => setAsking(false)}
        >
          <p className="font-medium break-words text-ink">{job.title}</p>
          <p>{LEAVES[job.kind]}</p>
          <p>It counts as stopped once its process has ended, not when you press the button.</p>
        </Confirm>
      )}
    </>
  );
}
