import { Mono } from "../elements/Mono";
import type { JournalView } from "../jobs/journal";
import { formatDuration } from "../time/format";
import { Time } from "../time/Time";

function distance(journal: JournalView): string | null {
  if (journal.replayedTo === null || !journal.target?.startsWith("time:")) return null;
  const seconds = (Date.parse(journal.target.slice(5)) - Date.parse(journal.replayedTo)) / 1000;
  return Number.isFinite(seconds) && seconds >= 0 ? formatDuration(seconds) : null;
}

/** How far the copy has come in the source's own time, against where it shall stop. */
export function ReplayClock({ journal }: { journal: JournalView }) {
  if (journal.target === null && journal.replayedTo === null) return null;
  const left = distance(journal);
  const time = journal.target?.startsWith("time:") ? journal.target.slice(5) : null;
  return (
    <section
      aria-label="Replay clock"
      className="grid gap-px overflow-hidden rounded-lg border border-line bg-line sm:grid-cols-2"
    >
      <div className="bg-surface px-4 py-3">
        <h2 className="label">Replayed to</h2>
        <p className="mt-1 text-title leading-tight font-medium">
          <Time value={journal.replayedTo} />
        </p>
        <p className="text-small text-ink-3">commit time of the last transaction replayed</p>
      </div>
      <div className="bg-surface px-4 py-3">
        <h2 className="label">Target</h2>
        <p className="mt-1 text-title leading-tight font-medium">
          {time ? <Time value={time} /> : <Mono value={journal.target} />}
        </p>
        <p className="text-small text-ink-3">
          {left ? `${left} of the source's time left to replay` : "distance in time unknown"}
        </p>
      </div>
    </section>
  );
}
