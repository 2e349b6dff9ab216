import { useState } from "react";
import type { RestoreResult, SetAside, SourceConfiguration } from "../api/bindings";
import { CodeBlock } from "../elements/CodeBlock";
import { Mono } from "../elements/Mono";
import { Facts, Section } from "../elements/Page";
import { PhaseTable } from "../jobs/Phases";
import { Time } from "../time/Time";
import { commitName } from "../wal/commit";
import { Gates } from "./Gates";
import { Verdict } from "./Verdict";

/** Where the copy is and what can be done with it. */
function Copy({ result, inPlace }: { result: RestoreResult; inPlace: boolean }) {
  const [discarded, setDiscarded] = useState(false);
  if (discarded)
    return (
      <Section title="The copy" aside="discarded">
        <p role="status">The copy was discarded: its server is stopped and its directory deleted.</p>
      </Section>
    );
  return (
    <>
      <Section
        title="The copy"
        aside={result.running ? "its server is running" : "its server is not running"}
      >
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
          {result.configuration && <Configuration kept={result.configuration} />}
        </div>
      </Section>
      <Gates result={result} inPlace={inPlace} onDiscarded={() => setDiscarded(true)} />
    </>
  );
}

/** What the source had outside its data directory, which no base backup holds. */
function Configuration({ kept }: { kept: SourceConfiguration }) {
  return (
    <div className="space-y-1.5 text-ink-2">
      {kept.files.length > 0 && (
        <p>
          The source&rsquo;s configuration lay outside its data directory. It is not in use here; its{" "}
          {kept.files.length === 1 ? "file is" : `${kept.files.length} files are`} in{" "}
          <Mono value={kept.directory} copy="path of the configuration" />
        </p>
      )}
      {kept.missing.map((path) => (
        <p key={path}>
          <Mono value={path} /> of the source is in no backup: the role could not read it.
        </p>
      ))}
    </div>
  );
}

interface RunResultProps {
  result: RestoreResult;
  /** What a restore in place keeps beside the data directory. */
  aside: SetAside | null;
}

/** What a restore reached, whether that was verified, and what can be done with the copy. */
export function RunResult({ result, aside }: RunResultProps) {
  const { reached, stopped_before: before } = result;
  return (
    <div className="space-y-4">
      <Verdict verified={result.verified} checks={result.checks} />
      <div className="grid items-start gap-4 xl:grid-cols-2">
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
                    {commitName(before)} of <Time value={before.time} digits={6} />
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
      {/* Swapped back, the directory holds the old data again. */}
      {!aside?.is_copy && <Copy result={result} inPlace={aside !== null} />}
    </div>
  );
}
