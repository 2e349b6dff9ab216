import type { ReactNode } from "react";
import type {
  ArchiveResult,
  BackupResult,
  BundleResult,
  HeldBack,
  JobDetail,
  Lag,
  LocksRenewed,
  Queued,
  RekeyResult,
  ReplicationResult,
  RetentionApplied,
  VerifyFinding,
  VerifyResult,
} from "../api/bindings";
import { Bytes, Count } from "../elements/Bytes";
import { Findings } from "../elements/Findings";
import { Mono } from "../elements/Mono";
import { Notice } from "../elements/Notice";
import { Facts, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { StateBadge } from "../elements/StateBadge";
import { QueueTable } from "../policies/QueueTable";
import { Duration, Time } from "../time/Time";
import { GAP_CAUSES } from "../wal/causes";
import { NeedsSnapshotNotice } from "../wal/NeedsSnapshotNotice";
import { PhaseTable } from "./Phases";

function BackupOutcome({ result }: { result: BackupResult }) {
  const snapshot = result.snapshot;
  return (
    <div className="space-y-4">
      <Section title="Snapshot" aside={<StateBadge state={snapshot.state} />}>
        <Facts
          rows={[
            ["Id", <Mono key="id" value={snapshot.id} copy="snapshot id" />],
            ["Kind", snapshot.kind],
            ["Consistent at", <Time key="t" value={snapshot.finished_at} both />],
            ["Usable from LSN", <Mono key="l" value={snapshot.stop_lsn} copy="LSN" />],
            ["Timeline", snapshot.timeline],
            ["Database size", <Bytes key="b" value={snapshot.bytes_logical} exact />],
            [
              result.transfer.from === "files" ? "Read beside the server" : "Came over the network",
              <span key="n">
                <Bytes value={result.transfer.bytes} exact />
                {result.transfer.zstd && ", compressed by the server"}
              </span>,
            ],
            ["Added to the repository", <Bytes key="a" value={snapshot.bytes_added} exact />],
            ["Files", <Count key="f" value={result.files} />],
            ["Pages with a wrong checksum", <Count key="p" value={snapshot.page_findings} />],
          ]}
        />
      </Section>
      {result.warnings.length > 0 && (
        <Section title="Warnings">
          <ul className="list-disc space-y-1 pl-5">
            {result.warnings.map((warning) => (
              <li key={warning} className="break-words">
                {warning}
              </li>
            ))}
          </ul>
        </Section>
      )}
      {result.page_findings.length > 0 && (
        <Section title="Pages">
          <Findings findings={result.page_findings} label="Pages" />
        </Section>
      )}
      <Section title="Phases">
        <PhaseTable phases={result.phases} />
      </Section>
    </div>
  );
}

function ArchiveOutcome({ result }: { result: ArchiveResult }) {
  return (
    <div className="space-y-4">
      {result.needs_snapshot && <NeedsSnapshotNotice needs={result.needs_snapshot} />}
      <Section title="Archived">
        <Facts
          rows={[
            ["Durable up to LSN", <Mono key="l" value={result.durable_lsn} copy="LSN" />],
            ["In the store up to LSN", <Mono key="u" value={result.stored_lsn} copy="LSN" />],
            ["Counted as durable", result.durability === "spool" ? "this machine's spool" : "the store"],
            ["Timeline", result.timeline],
            ["Segments", <Count key="s" value={result.segments} />],
          ]}
        />
      </Section>
      {result.gaps.length > 0 && (
        <Section title="WAL that is lost">
          <ul className="list-disc space-y-1 pl-5">
            {result.gaps.map((gap) => (
              <li key={`${gap.timeline} ${gap.from_lsn}`} className="break-words">
                {GAP_CAUSES[gap.cause]}: <Mono value={gap.from_lsn} /> to <Mono value={gap.to_lsn} /> on
                timeline {gap.timeline}, because {gap.explanation}
              </li>
            ))}
          </ul>
        </Section>
      )}
    </div>
  );
}

function asFinding(finding: VerifyFinding) {
  return {
    severity: finding.severity,
    code: finding.kind,
    message: `${finding.message} (${finding.object})`,
    repair: null,
  };
}

function VerifyOutcome({ result }: { result: VerifyResult }) {
  return (
    <div className="space-y-4">
      <Section
        title={
          result.ok
            ? "Everything that was read is what it must be"
            : "Something stored is not what it must be"
        }
        aside={
          result.sample === null ? `level: ${result.level}` : `level: ${result.level}, part ${result.sample}`
        }
      >
        <Facts
          rows={[
            ["Objects read", <Count key="o" value={result.checked.objects} />],
            ["Bytes read", <Bytes key="b" value={result.checked.bytes} exact />],
            ["Files put together", <Count key="f" value={result.checked.files} />],
            ["Pages checked", <Count key="p" value={result.checked.pages} />],
            ["WAL segments", <Count key="w" value={result.checked.wal_segments} />],
            ["WAL records read", <Count key="r" value={result.checked.wal_records} />],
            ["Objects left out", <Count key="s" value={result.skipped.objects} />],
            ["Files left out", <Count key="l" value={result.skipped.files} />],
          ]}
        />
      </Section>
      {result.findings.length > 0 && (
        <Section title="Findings">
          <Findings findings={result.findings.map(asFinding)} label="Findings" />
        </Section>
      )}
      <Section title="What this does not show">
        <ul className="list-disc space-y-1 pl-5 text-small text-ink-2">
          {result.not_shown.map((what) => (
            <li key={what}>{what}</li>
          ))}
        </ul>
      </Section>
    </div>
  );
}

function BundleOutcome({ result }: { result: BundleResult }) {
  return (
    <Section title="Bundle, read back" aside={result.path}>
      <Facts
        rows={[
          ["Snapshot", <Mono key="s" value={result.snapshot} copy="snapshot id" />],
          ["WAL from", <Mono key="f" value={result.from_lsn} copy="LSN" />],
          ["WAL to", <Mono key="t" value={result.to_lsn} copy="LSN" />],
          ["Timeline", result.timeline],
          ["Objects", <Count key="o" value={result.objects} />],
          ["Size", <Bytes key="b" value={result.bytes} exact />],
        ]}
      />
    </Section>
  );
}

function behind(lag: Lag): [string, ReactNode] {
  return [
    "Behind by",
    <span key="l">
      <Duration seconds={lag.seconds} />: <Count value={lag.objects} /> objects, <Bytes value={lag.bytes} />
    </span>,
  ];
}

function ahead(objects: number): [string, ReactNode] {
  return [
    "Ahead by",
    <span key="a">
      <Count value={objects} /> objects that the repository lacks: somebody writes to the replica, or the
      repository has lost them. Key slots were neither added nor removed.
    </span>,
  ];
}

function HeldBackList({ held }: { held: HeldBack[] }) {
  return (
    <ul className="my-3 list-disc space-y-1 pl-5 text-small">
      {held.map(({ object, message }) => (
        <li key={object} className="break-words">
          {message.startsWith(object) ? message : `${object}: ${message}`}
        </li>
      ))}
    </ul>
  );
}

function RekeyOutcome({ result }: { result: RekeyResult }) {
  return (
    <div className="space-y-4">
      {result.held_back.length > 0 && (
        <Section title="Not carried">
          <Notice>This is damaged, or needs what is, and is in the old repository only:</Notice>
          <HeldBackList held={result.held_back} />
        </Section>
      )}
      {result.left.length > 0 && (
        <Section title="Left behind">
          <p>This does not count in the old repository, and was left there:</p>
          <HeldBackList held={result.left} />
        </Section>
      )}
      <Section title="New repository">
        <Facts
          rows={[
            ["Place", <Mono key="t" value={result.to} />],
            ["Clusters", result.switched ? "Go on there" : "Stay in the old one"],
            ["Snapshots carried", <Count key="s" value={result.snapshots} />],
            ["Other objects carried", <Count key="o" value={result.objects} />],
            ["Carried before", <Count key="h" value={result.there} />],
            ["Read", <Bytes key="r" value={result.bytes_read} exact />],
            ["Stored for snapshots", <Bytes key="b" value={result.bytes_stored} exact />],
            ["Took", <Duration key="d" seconds={result.seconds} />],
            ...(result.agents.length > 0
              ? [["Agents to admit anew", result.agents.join(", ")] as [string, ReactNode]]
              : []),
            ...(result.replicas.length > 0
              ? [["Replicas with the old key", result.replicas.join(", ")] as [string, ReactNode]]
              : []),
          ]}
        />
      </Section>
      <Section title="What it means">
        <p className="break-words">{result.means}</p>
      </Section>
    </div>
  );
}

/** What a store that locks what is put was asked to lock for longer. */
function lockFacts(locks: LocksRenewed) {
  return [
    ["The store locks what is put", `for ${locks.days} days`],
    ["Locked for as long again", <Count key="r" value={locks.renewed} />],
  ] as const;
}

function NotRenewed({ locks }: { locks: LocksRenewed }) {
  if (locks.refused === 0) return null;
  return (
    <div className="mt-3 space-y-2">
      <Notice>
        Needed, and not locked again: <Count value={locks.refused} />{" "}
        {locks.refused === 1 ? "object" : "objects"}. Whoever has access to the store can remove what is not
        locked any more.
      </Notice>
      <ul className="list-disc space-y-1 pl-5">
        {locks.examples.map((each) => (
          <li key={each.object} className="break-words">
            {each.object}: {each.message}
          </li>
        ))}
      </ul>
    </div>
  );
}

function ReplicationOutcome({ result }: { result: ReplicationResult }) {
  return (
    <div className="space-y-4">
      {result.replicas.map((replica) => (
        <Section key={replica.url} title={replica.url}>
          {replica.error && <Problem error={replica.error} title="This replica is not up to date" />}
          {replica.held_back.length > 0 && (
            <>
              <Notice>Not copied, because it is damaged or needs what is:</Notice>
              <HeldBackList held={replica.held_back} />
            </>
          )}
          {!replica.error && (
            <Facts
              rows={[
                ["State", replica.ok ? "Up to date, every object read back" : "Incomplete"],
                ["Objects copied", <Count key="o" value={replica.objects} />],
                ["Size", <Bytes key="b" value={replica.bytes} exact />],
                ["Took", <Duration key="d" seconds={replica.seconds} />],
                ...(replica.lag && replica.lag.objects > 0 ? [behind(replica.lag)] : []),
                ...(replica.ahead > 0 ? [ahead(replica.ahead)] : []),
                ...(replica.locked > 0
                  ? [["Removed once its locks end", <Count key="l" value={replica.locked} />] as const]
                  : []),
                ...(replica.locks ? lockFacts(replica.locks) : []),
              ]}
            />
          )}
          {replica.locks && <NotRenewed locks={replica.locks} />}
        </Section>
      ))}
    </div>
  );
}

function marked(queued: Queued): string {
  return `${queued.snapshots.length} snapshots, ${queued.wal_segments} WAL segments, ${queued.packs} packs`;
}

function RetentionOutcome({ result }: { result: RetentionApplied }) {
  const { removed } = result;
  const { spared, waiting, locked, kept_by_store } = result;
  const stays = spared.length + waiting.length + locked.length + kept_by_store.length > 0;
  return (
    <div className="space-y-4">
      <Section title="Removed">
        <Facts
          rows={[
            ["Snapshots", <Count key="s" value={removed.snapshots.length} />],
            ["WAL segments", <Count key="w" value={removed.wal_segments} />],
            ["Packs", <Count key="p" value={removed.packs} />],
            ["Size", <Bytes key="b" value={removed.bytes} exact />],
            ["By policy", result.policy_version === 0 ? "the default" : `version ${result.policy_version}`],
            ["Marked now", result.marked ? marked(result.marked) : "nothing"],
          ]}
        />
      </Section>
      {stays && (
        <Section title="Not removed">
          <ul className="list-disc space-y-1 pl-5">
            {spared.map((snapshot) => (
              <li key={snapshot} className="break-words">
                Snapshot <Mono value={snapshot} /> was marked and stays: a hold or the policy keeps it by now.
              </li>
            ))}
            {waiting.map((waiting) => (
              <li key={waiting.id} className="break-words">
                {waiting.holder} may be reading what was marked as <Mono value={waiting.id} />. Its lease ends
                at <Time value={waiting.until} digits={0} /> unless it is renewed; apply retention again after
                that.
              </li>
            ))}
            {locked.map((mark) => (
              <li key={mark.id} className="break-words">
                The store locks what was marked as <Mono value={mark.id} /> until{" "}
                <Time value={mark.until} digits={0} />. Until then it can be taken back.
              </li>
            ))}
            {kept_by_store.map((kept) => (
              <li key={kept.object} className="break-words">
                The store did not remove {kept.object}: {kept.message}. It is tried again the next time.
              </li>
            ))}
          </ul>
        </Section>
      )}
      {result.locks && (
        <Section title="Locks of the store">
          <Facts rows={lockFacts(result.locks)} />
          <NotRenewed locks={result.locks} />
        </Section>
      )}
      <Section title="Deletion queue">
        <QueueTable queue={result.queue} />
      </Section>
    </div>
  );
}

/** The result of a job that has no screen of its own. */
export function JobResults({ detail }: { detail: JobDetail }) {
  const result = detail.result;
  if (result === null) return null;
  switch (result.kind) {
    case "backup":
      return <BackupOutcome result={result} />;
    case "archive":
      return <ArchiveOutcome result={result} />;
    case "verify":
      return <VerifyOutcome result={result} />;
    case "bundle":
      return <BundleOutcome result={result} />;
    case "replication":
      return <ReplicationOutcome result={result} />;
    case "rekey":
      return <RekeyOutcome result={result} />;
    case "retention":
      return <RetentionOutcome result={result} />;
    default:
      return null;
  }
}
