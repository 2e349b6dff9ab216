import { Pause, Play } from "lucide-react";
import type { JobSummary } from "../api/bindings";
import { toErrorObject } from "../api/client";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";

/** Pauses a restore and lets it go on. Both can be taken back, so neither asks. */
export function PauseRestore({ job }: { job: JobSummary }) {
  const pause = useAction("restore_pause");
  const resume = useAction("restore_resume");
  const error = pause.error ?? resume.error;
  const goesOn = job.paused || job.resumable;
  if (!goesOn && job.state !== "running") return null;
  return (
    <>
      {goesOn ? (
        <Button icon={Play} busy={resume.isPending} onClick={() => resume.mutate({ job: job.id })}>
          Resume this restore
        </Button>
      ) : (
        <Button icon={Pause} busy={pause.isPending} onClick={() => pause.mutate({ job: job.id })}>
          Pause
        </Button>
      )}
      {error && (
        <p role="alert" className="basis-full text-small text-broken">
          {toErrorObject(error).message}
        </p>
      )}
    </>
  );
}
