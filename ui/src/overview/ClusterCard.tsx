import type { ClusterOverview, SlotState, WorkspaceStatus } from "../api/bindings";
import { useAnswer } from "../api/queries";
import { Bytes, Count } from "../elements/Bytes";
import { Mono } from "../elements/Mono";
import { Problem } from "../elements/Problem";
import { lookOf, StateBadge } from "../elements/StateBadge";
import { Unknown } from "../elements/Unknown";
import { Ago, Duration, Time } from "../time/Time";
import { NeedsSnapshotNotice } from "../wal/NeedsSnapshotNotice";
import { ClusterActions } from "./ClusterActions";
import { CoverageBar } from "./CoverageBar";

function Cell({ label, children }: { label: string; children: React.ReactNode }) {
  return (
    <div className="min-w-0">
      <dt className="label">{label}</dt>
      <dd className="mt-0.5 break-words">{children}</dd>
    </div>
  );
}

function Archiving({ entry }: { entry: ClusterOverview }) {
  if (!entry.archiving) {
    return (
      <>
        <span className="font-semibold text-degraded">Not running here</span>
        <span className="block text-small text-ink-3">new commits are not being stored</span>
      </>
    );
  }
  return (
    <>
      <span className="font-medium">Running</span>
      <span className="block text-small text-ink-3">
        behind the server by <Bytes value={entry.archive_lag_bytes} />
      </span>
    </>
  );
}

function Slot({ slot }: { slot: SlotState }) {
  const lost = slot.wal_status === "lost" || slot.wal_status === "unreserved";
  return (
    <>
      <span className={lost ? "font-semibold text-broken" : "font-medium"}>
        {slot.wal_status ?? "holds nothing"}
      </span>
      <span className="block text-small text-ink-3">
        keeps <Bytes value={slot.held_bytes} /> on the server · seen <Ago value={slot.seen_at} />
      </span>
    </>
  );
}

interface ClusterCardProps {
  entry: ClusterOverview;
  workspace: WorkspaceStatus | undefined;
}

/** One cluster: first whether it can be brought back and to when, then why. */
export function ClusterCard({ entry, workspace }: ClusterCardProps) {
  const { cluster } = entry;
  const points = useAnswer(
    "points",
    { cluster: cluster.name, from: null, to: null },
    { enabled: entry.problem === null, every: 30_000 },
  );
  // With a problem the numbers could not be determined: they are unknown, not nought.
  const known = entry.problem === null;
  const look = lookOf(entry.state);
  const alarming = entry.state === "broken" || entry.state === "unknown";
  return (
    <article
      aria-label={cluster.name}
      className={`card overflow-hidden ${alarming ? "border-broken/50" : ""}`}
    >
      <header className="flex flex-wrap items-center gap-x-3 gap-y-1.5 px-4 pt-3.5 sm:px-5">
        <h2 className="text-lead font-semibold break-all">{cluster.name}</h2>
        {cluster.demo && (
          <strong className="demo-stripes rounded px-1.5 text-small font-bold tracking-wider">
            <span className="rounded-sm bg-[var(--demo-a)] px-1">DEMO</span>
          </strong>
        )}
        <StateBadge state={entry.state} />
        <span className="text-small text-ink-3">
          PostgreSQL {cluster.server_version} ·{" "}
          {cluster.mode === "physical" ? "physical" : "physical, over an ordinary connection"}
        </span>
      </header>
      <div className="px-4 pt-2 pb-4 sm:px-5">
        <p className={`text-lead font-medium text-balance ${alarming ? look.text : "text-ink"}`}>
          {entry.sentence}
        </p>
        <p className="mt-0.5 text-small text-ink-3">
          {look.word}: {look.meaning}
        </p>
        {entry.problem && (
          <div className="mt-3">
            <Problem error={entry.problem} title="Its state could not be determined" live={false} />
          </div>
        )}
        {entry.needs_snapshot && (
          <div className="mt-3">
            <NeedsSnapshotNotice needs={entry.needs_snapshot} />
          </div>
        )}
        {known && (
          <div className="mt-4">
            <CoverageBar points={points.data} problem={points.error} />
          </div>
        )}
        <dl className="mt-4 grid grid-cols-[repeat(auto-fit,minmax(min(12.75rem,100%),1fr))] gap-x-4 gap-y-3.5">
          <Cell label="Last stored commit">
            <Time value={entry.recoverable_to} digits={0} />
            <span className="block text-small text-ink-3">
              {entry.recoverable_to ? <Ago value={entry.recoverable_to} /> : null}
              {entry.recoverable_to && entry.recoverable_to_lsn ? " · " : null}
              {entry.recoverable_to_lsn ? <Mono value={entry.recoverable_to_lsn} /> : null}
            </span>
          </Cell>
          <Cell label="Last snapshot">
            {entry.last_snapshot ? (
              <>
                <Time value={entry.last_snapshot.finished_at} digits={0} />
                <span className="block text-small text-ink-3">
                  <Ago value={entry.last_snapshot.finished_at} /> ·{" "}
                  <Bytes value={entry.last_snapshot.bytes_logical} />
                </span>
              </>
            ) : known ? (
              "none yet"
            ) : (
              <Unknown />
            )}
          </Cell>
          <Cell label="Last proof">
            {entry.last_proof ? (
              <>
                <Time value={entry.last_proof.at} digits={0} />
                <span className="block text-small text-ink-3">
                  restored in <Duration seconds={entry.last_proof.seconds} />
                </span>
              </>
            ) : known ? (
              "never restored"
            ) : (
              <Unknown />
            )}
          </Cell>
          <Cell label="Archiving">
            <Archiving entry={entry} />
          </Cell>
          {entry.slot && (
            <Cell label="Replication slot">
              <Slot slot={entry.slot} />
            </Cell>
          )}
          <Cell label="In the repository">
            {known ? (
              <>
                <Bytes value={entry.bytes_stored} />
                <span className="block text-small text-ink-3">
                  <Count value={entry.snapshots} /> {entry.snapshots === 1 ? "snapshot" : "snapshots"} ·{" "}
                  <span className={entry.gaps > 0 ? "font-semibold text-broken" : ""}>
                    <Count value={entry.gaps} /> {entry.gaps === 1 ? "gap" : "gaps"}
                  </span>
                </span>
              </>
            ) : (
              <Unknown />
            )}
          </Cell>
        </dl>
      </div>
      <ClusterActions entry={entry} workspace={workspace} />
    </article>
  );
}
