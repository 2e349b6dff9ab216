import type { ReactNode } from "react";
import { Bytes } from "../elements/Bytes";
import { Mono } from "../elements/Mono";
import type { JournalView } from "../jobs/journal";
import { formatDuration } from "../time/format";
import { Time } from "../time/Time";
import { walBetween } from "../wal/lsn";

/** Seconds of the source's time that are left, where the target is a time. */
function timeLeft({ replayedTo, target }: JournalView): number | null {
  if (replayedTo === null || !target?.startsWith("time:")) return null;
  const seconds = (Date.parse(target.slice(5)) - Date.parse(replayedTo)) / 1000;
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

/** Bytes of WAL that are left; the last record may end a little behind where the replay stops. */
function walLeft({ replayedLsn, targetLsn }: JournalView): number | null {
  if (replayedLsn === null || targetLsn === null) return null;
  const bytes = walBetween(replayedLsn, targetLsn);
  return bytes === null ? null : Math.max(0, bytes);
}

function Left({ journal }: { journal: JournalView }) {
  const [wal, seconds] = [walLeft(journal), timeLeft(journal)];
  if (wal === null && seconds === null) return "how much is left is not known before the copy is consistent";
  return (
    <>
      {wal !== null && (
        <>
          <Bytes value={wal} /> of WAL
        </>
      )}
      {wal !== null && seconds !== null && " and "}
      {seconds !== null && `${formatDuration(seconds)} of the source's time`} left to replay
    </>
  );
}

function Side({ title, lead, children }: { title: string; lead: ReactNode; children: ReactNode }) {
  return (
    <div className="bg-surface px-4 py-3">
      <h2 className="label">{title}</h2>
      <p className="mt-1 text-title leading-tight font-medium">{lead}</p>
      {children}
    </div>
  );
}

/** How far the copy has come, in the source's own time and in the WAL, against where it shall stop. */
export function ReplayClock({ journal }: { journal: JournalView }) {
  if (journal.target === null && journal.replayedTo === null) return null;
  const time = journal.target?.startsWith("time:") ? journal.target.slice(5) : null;
  return (
    <section
      aria-label="Replay clock"
      className="grid gap-px overflow-hidden rounded-lg border border-line bg-line sm:grid-cols-2"
    >
      <Side title="Replayed to" lead={<Time value={journal.replayedTo} />}>
        <p className="text-small text-ink-3">commit time of the last transaction replayed</p>
        <p className="text-small text-ink-2">
          LSN <Mono value={journal.replayedLsn} />
        </p>
      </Side>
      <Side title="Target" lead={time ? <Time value={time} /> : <Mono value={journal.target} />}>
        <p className="text-small text-ink-2">
          <Left journal={journal} />
        </p>
        <p className="text-small text-ink-2">
          LSN <Mono value={journal.targetLsn} />
        </p>
      </Side>
    </section>
  );
}
