import type { JobEvent, JobKind, JobState } from "../api/bindings";

/** A phase of a job as its journal tells it. What was not said is null. */
export interface PhaseView {
  name: string;
  state: "running" | "done" | "stopped";
  startedAt: string;
  endedAt: string | null;
  done: number | null;
  total: number | null;
  unit: string | null;
  rate: number | null;
}

export interface JournalLine {
  seq: number;
  at: string;
  kind: "log" | "warning" | "alert" | "failed";
  message: string;
}

export interface JournalView {
  lastSeq: number;
  lastAt: string | null;
  phases: PhaseView[];
  replayedTo: string | null;
  replayedLsn: string | null;
  target: string | null;
  targetLsn: string | null;
  lines: JournalLine[];
  /** Lines that were left out because there were too many. */
  dropped: number;
  ended: "finished" | "failed" | "cancelled" | null;
  /** Seconds between the last events, newest last; from them follows what silence is unusual. */
  intervals: number[];
}

export const EMPTY_JOURNAL: JournalView = {
  lastSeq: -1,
  lastAt: null,
  phases: [],
  replayedTo: null,
  replayedLsn: null,
  target: null,
  targetLsn: null,
  lines: [],
  dropped: 0,
  ended: null,
  intervals: [],
};

const LINE_LIMIT = 400;
const INTERVAL_LIMIT = 20;

function phaseAfter(phases: PhaseView[], event: JobEvent): PhaseView[] {
  // The journal's own opening has no phase yet, and its end belongs to none.
  if (event.phase === "" || event.phase === "start") return phases;
  const last = phases.at(-1);
  const begins = event.kind === "phase_started" || last === undefined || last.name !== event.phase;
  if (begins) {
    const closed = phases.map((phase) =>
      phase.state === "running" ? { ...phase, state: "done" as const, endedAt: event.at, rate: null } : phase,
    );
    const fresh: PhaseView = {
      name: event.phase,
      state: "running",
      startedAt: event.at,
      endedAt: null,
      done: event.done,
      total: event.total,
      unit: event.unit,
      rate: event.rate,
    };
    return [...closed, fresh];
  }
  const moved: PhaseView = {
    ...last,
    // Counts only ever grow; a line without a number does not take one away.
    done: event.done === null ? last.done : Math.max(event.done, last.done ?? 0),
    total: event.total ?? last.total,
    unit: event.unit ?? last.unit,
    rate: event.kind === "progress" ? event.rate : last.rate,
  };
  return [...phases.slice(0, -1), moved];
}

function endPhases(phases: PhaseView[], kind: JobEvent["kind"], at: string): PhaseView[] {
  const state = kind === "finished" ? ("done" as const) : ("stopped" as const);
  return phases.map((phase) =>
    phase.state === "running" ? { ...phase, state, endedAt: at, rate: null } : phase,
  );
}

function lineOf(event: JobEvent): JournalLine | null {
  if (event.message === null) return null;
  if (event.kind === "log" || event.kind === "warning" || event.kind === "alert" || event.kind === "failed") {
    return { seq: event.seq, at: event.at, kind: event.kind, message: event.message };
  }
  return null;
}

/** Adds one event. Events that were already seen change nothing, so a replay from the start is safe. */
export function addEvent(before: JournalView, event: JobEvent): JournalView {
  if (event.seq <= before.lastSeq) return before;
  // A paused restore that is stepped forward goes on where its journal had ended.
  const resumed = before.ended !== null && event.kind === "phase_started";
  if (before.ended !== null && !resumed) return before;
  const view = resumed ? { ...before, ended: null } : before;
  const ends = event.kind === "finished" || event.kind === "failed" || event.kind === "cancelled";
  const phases = ends ? endPhases(view.phases, event.kind, event.at) : phaseAfter(view.phases, event);
  const line = lineOf(event);
  const lines = line === null ? view.lines : [...view.lines, line];
  const excess = Math.max(0, lines.length - LINE_LIMIT);
  const interval = view.lastAt === null ? null : (Date.parse(event.at) - Date.parse(view.lastAt)) / 1000;
  return {
    lastSeq: event.seq,
    lastAt: event.at,
    phases,
    replayedTo: event.replayed_to ?? view.replayedTo,
    replayedLsn: event.replayed_lsn ?? view.replayedLsn,
    target: event.target ?? view.target,
    targetLsn: event.target_lsn ?? view.targetLsn,
    lines: excess > 0 ? lines.slice(excess) : lines,
    dropped: view.dropped + excess,
    ended: ends ? (event.kind as "finished" | "failed" | "cancelled") : null,
    intervals: interval === null ? view.intervals : [...view.intervals, interval].slice(-INTERVAL_LIMIT),
  };
}

export function addEvents(view: JournalView, events: readonly JobEvent[]): JournalView {
  return events.reduce(addEvent, view);
}

const QUIET_AT_LEAST = 30;
const STALL_FACTOR = 3;

/**
 * Seconds of silence after which a running job counts as stalled: three times the longest of its last
 * intervals, and never less than half a minute. A WAL stream of an idle server is quiet by nature.
 */
export function stallAfter(kind: JobKind, view: JournalView): number | null {
  if (kind === "archive") return null;
  const longest = Math.max(0, ...view.intervals);
  return Math.max(QUIET_AT_LEAST, Math.min(longest, 100) * STALL_FACTOR);
}

/** Whether the journal and the catalog agree that nothing more will come. */
export function hasEnded(state: JobState | undefined, view: JournalView): boolean {
  return view.ended !== null || (state !== undefined && state !== "running");
}

/** `waiting for the server's checkpoint` as a heading. */
export function phaseTitle(name: string): string {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
