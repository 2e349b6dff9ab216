import { ArrowLeftRight, Trash2 } from "lucide-react";
import { useState } from "react";
import type { JobSummary, SetAside } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { CodeBlock } from "../elements/CodeBlock";
import { Confirm } from "../elements/Dialog";
import { Mono } from "../elements/Mono";
import { Section } from "../elements/Page";

type Asking = "swap" | "purge" | null;

/** What a restore in place keeps: the way back, until somebody purges it. */
export function SetAsideCard({ job, aside }: { job: JobSummary; aside: SetAside }) {
  const [asking, setAsking] = useState<Asking>(null);
  const close = () => setAsking(null);
  const swap = useAction("restore_swap_back", close);
  const purge = useAction("restore_purge", close);
  const name = job.cluster ?? job.id;
  const what = aside.is_copy ? "the restored copy" : "what was there before";
  return (
    <Section title={aside.is_copy ? "Swapped back" : "The way back"} aside="kept until it is purged">
      <div className="space-y-3">
        <p>
          {aside.is_copy
            ? "The old directory is in its place again. The restored copy is kept here:"
            : "The restored copy is in the data directory's place. What was there before is kept here:"}
        </p>
        <Mono value={aside.path} copy="path" />
        <div className="flex flex-wrap gap-2">
          {!aside.is_copy && (
            <Button icon={ArrowLeftRight} onClick={() => setAsking("swap")}>
              Swap back…
            </Button>
          )}
          <Button icon={Trash2} onClick={() => setAsking("purge")}>
            Purge {what}…
          </Button>
        </div>
        <CodeBlock
          text={`${aside.is_copy ? "" : `holdfast restore swap-back ${job.id}\n`}holdfast restore purge ${job.id}`}
          what="commands"
        />
      </div>
      {asking === "swap" && (
        <Confirm
          title={`Put the old directory of ${name} back?`}
          action="Swap back"
          busy={swap.isPending}
          error={swap.error}
          onConfirm={() => swap.mutate({ job: job.id })}
          onClose={close}
        >
          <p>
            The old data directory and the restored copy change places. No server may run in either. The copy
            is kept until it is purged; nothing is deleted.
          </p>
          <Mono value={aside.path} />
        </Confirm>
      )}
      {asking === "purge" && (
        <Confirm
          title={`Purge ${what}?`}
          action={`Purge ${what}`}
          look="danger"
          busy={purge.isPending}
          error={purge.error}
          typed={{ text: name, label: `Type ${name} to purge it` }}
          onConfirm={() => purge.mutate({ job: job.id })}
          onClose={close}
        >
          <p className="font-semibold text-broken">
            The directory is deleted. There is no way back from this.
          </p>
          <Mono value={aside.path} />
        </Confirm>
      )}
    </Section>
  );
}
