import { ArrowUpFromLine, Trash2 } from "lucide-react";
import { useState } from "react";
import type { RestoreResult } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { CodeBlock } from "../elements/CodeBlock";
import { Confirm } from "../elements/Dialog";
import { Mono } from "../elements/Mono";
import { Facts, Section } from "../elements/Page";
import { PhaseTable } from "../jobs/Phases";
import { Time } from "../time/Time";
import { Verdict } from "./Verdict";

type Asking = "promote" | "discard" | null;

function Actions({ result, onDiscarded }: { result: RestoreResult; onDiscarded: () => void }) {
  const [asking, setAsking] = useState<Asking>(null);
  const [promoted, setPromoted] = useState(false);
  const close = () => setAsking(null);
  const promote = useAction("restore_promote", () => {
    setPromoted(true);
    close();
  });
  const discard = useAction("restore_discard", () => {
    close();
    onDiscarded();
  });
  const canPromote = result.running && result.at_target === "pause" && !promoted;
  return (
    <div className="flex flex-wrap gap-2">
      {canPromote && (
        <Button icon={ArrowUpFromLine} onClick={() => setAsking("promote")}>
          Promote copy…
        </Button>
      )}
      <Button icon={Trash2} onClick={() => setAsking("discard")}>
        Discard copy…
      </Button>
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
    </div>
  );
}

/** What a restore reached, whether that was verified, and what can be done with the copy. */
export function RunResult({ result }: { result: RestoreResult }) {
  const [discarded, setDiscarded] = useState(false);
  const { reached, stopped_before: before } = result;
  return (
    <div className="space-y-4">
      <Verdict verified={result.verified} checks={result.checks} />
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <Section title="Reached">
          <Facts
            rows={[
              ["Last transaction held", <Mono key="x" value={reached.xid} copy="transaction id" />],
              ["Committed", <Time key="t" value={reached.commit_time} both digits={6} />],
              ["LSN", <Mono key="l" value={reached.lsn} copy="LSN" />],
              ["Timeline", reached.timeline],
              [
                "Stopped before",
                before ? (
                  <span key="b">
                    transaction <Mono value={before.xid} /> of <Time value={before.time} digits={6} />
                  </span>
                ) : (
                  "nothing: it is the end of what is stored"
                ),
              ],
              ["Plan", <Mono key="h" value={result.plan_hash} copy="plan hash" className="text-small" />],
            ]}
          />
        </Section>
        <Section title="Phases">
          <PhaseTable phases={result.phases} />
        </Section>
      </div>
      <Section
        title="The copy"
        aside={
          discarded ? "discarded" : result.running ? "its server is running" : "its server is not running"
        }
      >
        {discarded ? (
          <p role="status">The copy was discarded: its server is stopped and its directory deleted.</p>
        ) : (
          <div className="space-y-4">
            {result.dsn && (
              <div>
                <p className="mb-1.5 text-ink-2">Connect to it from this machine:</p>
                <CodeBlock text={result.dsn} what="connection string" />
              </div>
            )}
            <Facts
              rows={[
                ["Directory", <Mono key="d" value={result.data_directory} copy="path" />],
                ["Port", result.port === null ? "none" : <Mono key="p" value={result.port} copy="port" />],
              ]}
            />
            <Actions result={result} onDiscarded={() => setDiscarded(true)} />
          </div>
        )}
      </Section>
    </div>
  );
}
