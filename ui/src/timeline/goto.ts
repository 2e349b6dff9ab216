import type { RestorePoint } from "../api/bindings";
import { parseTime } from "../time/parse";
import { isLsn } from "../wal/lsn";

/** What somebody typed to go to, as one of the four forms of a target. */
export type Wanted =
  | { kind: "xid"; xid: string }
  | { kind: "lsn"; lsn: string }
  | { kind: "time"; time: number }
  | { kind: "name"; lsn: string }
  | { kind: "none"; why: string };

/** Reads a time, an LSN, a transaction id or the name of a restore point, or says why it is none. */
export function readWanted(text: string, points: readonly RestorePoint[]): Wanted {
  const typed = text.trim();
  const named = points.find((point) => point.name === typed);
  if (named) return { kind: "name", lsn: named.lsn };
  if (/^\d{1,10}$/.test(typed)) return { kind: "xid", xid: typed };
  if (isLsn(typed)) return { kind: "lsn", lsn: typed.toUpperCase() };
  const time = parseTime(typed);
  if (time.ok) return { kind: "time", time: time.millis };
  if (time.reason === "zone")
    return {
      kind: "none",
      why: "This time does not say its offset from UTC: add UTC or an offset such as +02:00.",
    };
  return {
    kind: "none",
    why:
      typed === ""
        ? "Type a time with its offset, an LSN, a transaction id, or a restore point's name."
        : `“${typed}” is no time with an offset, no LSN, no transaction id, and no restore point of this name is in sight.`,
  };
}
