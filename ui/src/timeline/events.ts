import type { FoundEvent, FoundKind } from "../api/bindings";

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

/** Whether rows were lost by it. */
export function isLoss(kind: FoundKind): boolean {
  return kind === "delete" || kind === "truncate" || kind === "drop" || kind === "drop_database";
}

/** What it happened to. */
export function subjectOf(event: FoundEvent): string {
  if (event.kind === "drop_database") return event.database ?? `database ${event.database_oid}`;
  const table = event.relation ?? (event.relfilenode === null ? null : `file ${event.relfilenode}`);
  return table ?? "a table whose name is not known";
}

/** The events nearest before and after a time, for stepping from one to the next. */
export function neighbour(events: readonly FoundEvent[], time: number, by: 1 | -1): FoundEvent | null {
  const times = (event: FoundEvent) => Date.parse(event.commit_time);
  const sorted = [...events].sort((a, b) => times(a) - times(b));
  if (by > 0) return sorted.find((event) => times(event) > time) ?? null;
  return sorted.findLast((event) => times(event) < time) ?? null;
}
