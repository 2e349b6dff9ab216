import type { RestorePlan } from "../api/bindings";
import { Bytes, Count } from "../elements/Bytes";
import { CodeBlock } from "../elements/CodeBlock";
import { Findings } from "../elements/Findings";
import { Mono } from "../elements/Mono";
import { Facts, Section } from "../elements/Page";
import { StateBadge } from "../elements/StateBadge";
import { Unknown } from "../elements/Unknown";
import { phaseTitle } from "../jobs/journal";
import { formatDuration } from "../time/format";
import { Time } from "../time/Time";
import { commitName } from "../wal/commit";
import { LossChanges } from "./LossChanges";
import { LossFacts, leavesOut } from "./LossFacts";
import type { PlanRequest } from "./request";

function Boundary({ plan }: { plan: RestorePlan }) {
  const { predicted, stops_before: before } = plan;
  return (
    <div className="grid gap-px overflow-hidden rounded-lg border border-line bg-line md:grid-cols-2">
      <div className="bg-surface px-4 py-3">
        <h3 className="label">Last transaction the copy will hold</h3>
        <p className="mt-1 text-lead font-medium">
          <Time value={predicted.commit_time} digits={6} />
        </p>
        <p className="text-small text-ink-2">
          transaction <Mono value={predicted.xid} /> · LSN <Mono value={predicted.lsn} /> · timeline{" "}
          {predicted.timeline}
        </p>
      </div>
      <div className="bg-surface px-4 py-3">
        <h3 className="label">First transaction it will not hold</h3>
        {before ? (
          <>
            <p className="mt-1 text-lead font-medium">
              <Time value={before.time} digits={6} />
            </p>
            <p className="text-small text-ink-2">
              {commitName(before)} · LSN <Mono value={before.lsn} />
            </p>
          </>
        ) : (
          <p className="mt-1 text-ink-2">None: nothing that is stored comes after it.</p>
        )}
      </div>
    </div>
  );
}

function Space({ plan }: { plan: RestorePlan }) {
  const tight = plan.bytes_free !== null && plan.bytes_free < plan.bytes_needed;
  return (
    <Section title="What it takes">
      <Facts
        rows={[
          [
            "Snapshot",
            <span key="s" className="inline-flex flex-wrap items-center gap-2">
              <Time value={plan.snapshot.finished_at} digits={0} /> <StateBadge state={plan.snapshot.state} />
            </span>,
          ],
          ["To fetch", <Bytes key="f" value={plan.bytes_fetch} />],
          [
            "WAL to replay",
            <span key="w">
              <Bytes value={plan.bytes_wal} /> in <Count value={plan.wal_segments} /> segments
            </span>,
          ],
          ["Space needed", <Bytes key="n" value={plan.bytes_needed} />],
          [
            "Space free",
            <span key="r" className={tight ? "font-semibold text-broken" : ""}>
              <Bytes value={plan.bytes_free} />
              {tight && " (too little)"}
            </span>,
          ],
          [
            "Server",
            plan.server ? (
              <span key="v">
                PostgreSQL {plan.server.version} <Mono value={plan.server.bin_directory} />
              </span>
            ) : (
              <span key="v" className="text-degraded">
                no matching PostgreSQL on this machine
              </span>
            ),
          ],
          [
            "Expected time",
            plan.estimate_seconds ? (
              `${formatDuration(plan.estimate_seconds.low)} to ${formatDuration(plan.estimate_seconds.high)}`
            ) : (
              <Unknown key="e">unknown: this machine has not restored it before</Unknown>
            ),
          ],
        ]}
      />
    </Section>
  );
}

/** Everything that was found out before the first byte is written. */
export function PlanPreview({ plan, request }: { plan: RestorePlan; request: PlanRequest }) {
  return (
    <div className="space-y-4">
      <Boundary plan={plan} />
      <div className="grid items-start gap-4 xl:grid-cols-2">
        <Section title="What the copy leaves out">
          <LossFacts loss={plan.loss} />
        </Section>
        <Space plan={plan} />
      </div>
      {leavesOut(plan.loss) && (
        <Section title="Rows that are left out" aside="read from the archived WAL">
          <LossChanges key={plan.hash} known={plan.loss.changes ?? null} request={request} />
        </Section>
      )}
      {plan.host_findings.length > 0 && (
        <Section title="This machine compared with the source">
          <Findings findings={plan.host_findings} label="Host findings" />
        </Section>
      )}
      <Section title="Steps">
        <ol className="space-y-2.5">
          {plan.steps.map((step, index) => (
            <li key={`${step.phase} ${step.title}`} className="grid grid-cols-[1.75rem_minmax(0,1fr)]">
              <span className="text-ink-3">{index + 1}.</span>
              <div>
                <p className="font-medium">{step.title}</p>
                <p className="text-small break-words text-ink-2">{step.detail}</p>
                {step.phase !== step.title && <p className="sr-only">Phase: {phaseTitle(step.phase)}</p>}
              </div>
            </li>
          ))}
        </ol>
      </Section>
      <Section title="The same from the command line" aside="without this window">
        <CodeBlock text={plan.command} what="command" />
        <div className="mt-3">
          <Facts
            rows={[
              ["Destination", <Mono key="d" value={plan.destination} copy="path" />],
              ["Plan", <Mono key="h" value={plan.hash} copy="plan hash" className="text-small" />],
              ["Planned", <Time key="t" value={plan.created_at} />],
            ]}
          />
        </div>
      </Section>
    </div>
  );
}
