import { ArrowUpFromLine, StepForward, Trash2 } from "lucide-react";
import { useState } from "react";
import type { RestoreResult } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { CodeBlock } from "../elements/CodeBlock";
import { Confirm } from "../elements/Dialog";
import { Field } from "../elements/Field";
import { Mono } from "../elements/Mono";
import { Section } from "../elements/Page";
import { Look } from "./Look";

type Asking = "step" | "promote" | "discard" | null;

const COMMITS_MOST = 1_000_000;

function readCommits(text: string): number | null {
  const commits = Number(text.trim());
  return /^\d+$/.test(text.trim()) && commits >= 1 && commits <= COMMITS_MOST ? commits : null;
}

interface GatesProps {
  result: RestoreResult;
  /** Whether it took the place of a data directory: then it is swapped back, not discarded. */
  inPlace: boolean;
  onDiscarded: () => void;
}

/** What can be done with a copy whose server runs: look, and while it is paused go on or promote it. */
export function Gates({ result, inPlace, onDiscarded }: GatesProps) {
  const [asking, setAsking] = useState<Asking>(null);
  const [count, setCount] = useState("1");
  const close = () => setAsking(null);
  const step = useAction("restore_step", close);
  const promote = useAction("restore_promote", close);
  const discard = useAction("restore_discard", () => {
    close();
    onDiscarded();
  });
  const paused = result.running && result.at_target === "pause";
  const commits = readCommits(count);
  const steps = commits === 1 ? "1 commit" : `${commits ?? "…"} commits`;
  return (
    <>
      {result.running && (
        <Section
          title={paused ? "Paused at the target" : "Look into the copy"}
          aside={paused ? "nothing is decided yet" : "read-only"}
        >
          <Look job={result.job} />
        </Section>
      )}
      {(paused || !inPlace) && (
        <Section title="Go on with it">
          <div className="space-y-4">
            {paused && (
              <div className="flex flex-wrap items-end gap-2">
                <Field
                  label="Commits forward"
                  inputMode="numeric"
                  value={count}
                  onChange={setCount}
                  error={commits === null ? "A whole number, at least 1." : undefined}
                  className="w-40"
                />
                <Button icon={StepForward} disabled={commits === null} onClick={() => setAsking("step")}>
                  Step forward…
                </Button>
                <p className="basis-full text-small text-ink-3">
                  There is no step back: an earlier point needs another restore.
                </p>
              </div>
            )}
            <div className="flex flex-wrap gap-2">
              {paused && (
                <Button icon={ArrowUpFromLine} onClick={() => setAsking("promote")}>
                  Promote copy…
                </Button>
              )}
              {!inPlace && (
                <Button icon={Trash2} onClick={() => setAsking("discard")}>
                  Discard copy…
                </Button>
              )}
            </div>
            <details>
              <summary className="w-fit text-ink-2 hover:text-ink">The same from the command line</summary>
              <div className="mt-2 space-y-2">
                {paused && (
                  <>
                    <CodeBlock
                      text={`holdfast restore inspect ${result.job} --sql 'SELECT …'`}
                      what="command to look"
                    />
                    <CodeBlock
                      text={`holdfast restore step ${result.job} ${commits ?? 1}`}
                      what="command to step"
                    />
                    <CodeBlock text={`holdfast restore promote ${result.job}`} what="command to promote" />
                  </>
                )}
                {!inPlace && (
                  <CodeBlock text={`holdfast restore discard ${result.job}`} what="command to discard" />
                )}
              </div>
            </details>
          </div>
        </Section>
      )}
      {asking === "step" && (
        <Confirm
          title={`Step the copy forward by ${steps}?`}
          action={`Step forward ${steps}`}
          busy={step.isPending}
          error={step.error}
          onConfirm={() => commits !== null && step.mutate({ job: result.job, commits })}
          onClose={close}
        >
          <p>
            Its server is stopped and started again, and replays on to the commit after the one it holds now.
            Where it stops is proven again. A step cannot be taken back.
          </p>
          <Mono value={result.data_directory} />
        </Confirm>
      )}
      {asking === "promote" && (
        <Confirm
          title="Promote the restored copy?"
          action="Promote copy"
          busy={promote.isPending}
          error={promote.error}
          onConfirm={() => promote.mutate({ job: result.job })}
          onClose={close}
        >
          <p>
            The copy leaves recovery and becomes writable on a new timeline. It cannot be moved to another
            point afterwards; a different point needs another restore.
          </p>
          {!result.verified && (
            <p className="font-semibold text-broken">It was not verified to be what was asked for.</p>
          )}
          <Mono value={result.data_directory} />
        </Confirm>
      )}
      {asking === "discard" && (
        <Confirm
          title="Discard the restored copy?"
          action="Discard copy"
          look="danger"
          busy={discard.isPending}
          error={discard.error}
          onConfirm={() => discard.mutate({ job: result.job })}
          onClose={close}
        >
          <p>
            Its server is stopped and its directory is deleted, with anything that was written to it since.
            The source and the backups stay as they are; the same restore can be run again.
          </p>
          <Mono value={result.data_directory} />
        </Confirm>
      )}
    </>
  );
}
