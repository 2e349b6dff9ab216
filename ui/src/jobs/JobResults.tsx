import type { ArchiveResult, BackupResult, JobDetail, VerifyFinding, VerifyResult } from "../api/bindings";
import { Bytes, Count } from "../elements/Bytes";
import { Findings } from "../elements/Findings";
import { Mono } from "../elements/Mono";
import { Facts, Section } from "../elements/Page";
import { StateBadge } from "../elements/StateBadge";
import { Time } from "../time/Time";
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
        aside={`level: ${result.level}`}
      >
        <Facts
          rows={[
            ["Objects read", <Count key="o" value={result.checked.objects} />],
            ["Bytes read", <Bytes key="b" value={result.checked.bytes} exact />],
            ["Pages checked", <Count key="p" value={result.checked.pages} />],
            ["WAL segments", <Count key="w" value={result.checked.wal_segments} />],
          ]}
        />
        <p className="mt-3 text-small text-ink-3">
          Reading back shows that the repository holds what was written. Only a restore proves that it works.
        </p>
      </Section>
      {result.findings.length > 0 && (
        <Section title="Findings">
          <Findings findings={result.findings.map(asFinding)} label="Findings" />
        </Section>
      )}
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
    default:
      return null;
  }
}
