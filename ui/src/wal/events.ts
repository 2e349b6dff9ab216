import type { FoundEvent, FoundKind, Marker, Markers, UnknownStretch } from "../api/bindings";
import { formatCount } from "../elements/Bytes";
import { relationName } from "./relation";

/** What happened to a table, as a verb that its name follows. */
export const EVENT_WORDS: Record<FoundKind, string> = {
  insert: "INSERT into",
  update: "UPDATE of",
  delete: "DELETE from",
  truncate: "TRUNCATE of",
  rewrite: "Rewrite of",
  drop: "DROP of",
  drop_database: "DROP DATABASE",
};

/** Something that happened to a table: out of the index beside the WAL, or found in the WAL itself. */
export interface TableEvent {
  key: string;
  kind: FoundKind;
  subject: string;
  /** How many rows, or that it is not known. */
  rows: string;
  xid: string;
  commitLsn: string;
  commitTime: string;
  time: number;
  rolledBack: boolean;
  /** The target that leaves it out, taken exclusively. */
  target: string;
}

/** Whether rows were lost by it. */
export function isLoss(kind: FoundKind): boolean {
  return kind === "delete" || kind === "truncate" || kind === "drop" || kind === "drop_database";
}

/** What it happened to. */
export function subjectOf(
  event: Pick<FoundEvent, "kind" | "database" | "database_oid" | "relation" | "relfilenode">,
) {
  if (event.kind === "drop_database") return event.database ?? `database ${event.database_oid}`;
  return relationName(event);
}

function heldRows(estimate: number | null): string {
  return estimate === null ? "unknown" : `about ${formatCount(estimate)} held`;
}

export function eventOfFound(found: FoundEvent): TableEvent {
  const { inserted, updated, deleted } = found.rows;
  const changed = [
    [deleted, "deleted"],
    [updated, "updated"],
    [inserted, "inserted"],
  ].flatMap(([count, word]) => (Number(count) > 0 ? [`${formatCount(Number(count))} ${word}`] : []));
  return {
    key: `${found.commit_lsn} ${found.kind} ${found.oid ?? found.relfilenode ?? found.database_oid}`,
    kind: found.kind,
    subject: subjectOf(found),
    rows: changed.length > 0 ? changed.join(", ") : heldRows(found.rows_estimate),
    xid: found.xid,
    commitLsn: found.commit_lsn,
    commitTime: found.commit_time,
    time: Date.parse(found.commit_time),
    rolledBack: found.outcome === "aborted",
    target: found.target,
  };
}

export function eventOfMarker(marker: Marker): TableEvent {
  const least = marker.begun_before ? "at least " : "";
  return {
    key: `${marker.commit_lsn} ${marker.kind} ${marker.oid ?? marker.relfilenode ?? marker.database_oid}`,
    kind: marker.kind,
    subject:
      marker.relations > 1
        ? `${formatCount(marker.relations)} tables whose names are not known`
        : subjectOf(marker),
    rows:
      marker.rows === null ? heldRows(marker.rows_estimate) : `${least}${formatCount(marker.rows)} deleted`,
    xid: marker.xid,
    commitLsn: marker.commit_lsn,
    commitTime: marker.commit_time,
    time: Date.parse(marker.commit_time),
    rolledBack: false,
    target: marker.target,
  };
}

/** What the index knows together with what a search has found; each thing once, oldest first. */
export function allEvents(
  known: readonly (Markers | undefined)[],
  found: readonly FoundEvent[],
): TableEvent[] {
  const events = new Map<string, TableEvent>();
  for (const marker of known.flatMap((each) => each?.markers ?? [])) {
    const event = eventOfMarker(marker);
    events.set(event.key, event);
  }
  // The search has read the WAL itself: it knows more of the same.
  for (const each of found) {
    const event = eventOfFound(each);
    events.set(event.key, event);
  }
  return [...events.values()].sort((a, b) => a.time - b.time);
}

/** The events nearest before and after a time, for stepping from one to the next. */
export function neighbour(events: readonly TableEvent[], time: number, by: 1 | -1): TableEvent | null {
  if (by > 0) return events.find((event) => event.time > time) ?? null;
  return events.findLast((event) => event.time < time) ?? null;
}

/** How much the lane of events says, in a few words; empty where the events themselves say it all. */
export function eventsNote(
  markers: Markers | undefined,
  events: readonly TableEvent[],
  failed: boolean,
): string {
  if (failed) return "could not be read";
  if (markers === undefined) return "being read…";
  const words = [
    events.length === 0 ? (markers.unknown.length > 0 ? "none known" : "none") : "",
    markers.omitted > 0 ? `${formatCount(markers.omitted)} more transactions: zoom in` : "",
    markers.unknown.length > 0 ? "grey: not known" : "",
  ];
  return words.filter(Boolean).join(" · ");
}

/** When a stretch of which nothing is known begins and ends; null where no transaction ended in it. */
export function unknownSpan(stretch: UnknownStretch): { from: number; to: number } | null {
  if (stretch.from === null || stretch.to === null) return null;
  return { from: Date.parse(stretch.from), to: Date.parse(stretch.to) };
}
