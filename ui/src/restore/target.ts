import type { Commit } from "../api/bindings";
import { parseTime, type Wall } from "../time/parse";
import { isLsn } from "../wal/lsn";

/** A recovery target as the form holds it: one kind, and what was typed for each. */
export type TargetKind = "latest" | "time" | "xid" | "lsn" | "name";

export interface TargetForm {
  kind: TargetKind;
  time: string;
  xid: string;
  lsn: string;
  name: string;
  exclusive: boolean;
}

export const EMPTY_TARGET: TargetForm = {
  kind: "latest",
  time: "",
  xid: "",
  lsn: "",
  name: "",
  exclusive: false,
};

export type TargetReading =
  | { ok: true; target: string; exclusive: boolean }
  | { ok: false; message: string /** A time that lacks only its offset. */; wall?: Wall };

/** PostgreSQL can leave the target itself out only where the target is a transaction, a time or an LSN. */
export function canExclude(kind: TargetKind): boolean {
  return kind === "time" || kind === "xid" || kind === "lsn";
}

function readTimeField(text: string): TargetReading {
  const time = parseTime(text);
  if (time.ok) return { ok: true, target: `time:${time.utc}`, exclusive: false };
  switch (time.reason) {
    case "empty":
      return { ok: false, message: "Enter a time with its offset, such as 2026-05-04 14:31:58.412 UTC." };
    case "zone":
      return {
        ok: false,
        message:
          "This time does not say its offset from UTC. Tools disagree about what that means, so Holdfast does not guess: add UTC or an offset such as +02:00.",
        wall: time.wall,
      };
    case "range":
      return { ok: false, message: "There is no such day, time or offset." };
    case "format":
      return {
        ok: false,
        message:
          "This is no time. Write it as 2026-05-04 14:31:58.412 UTC, or with an offset such as +02:00.",
      };
  }
}

function readValue(form: TargetForm): TargetReading {
  switch (form.kind) {
    case "latest":
      return { ok: true, target: "latest", exclusive: false };
    case "time":
      return readTimeField(form.time);
    case "xid": {
      const text = form.xid.trim();
      const xid = Number(text);
      if (!/^\d+$/.test(text) || xid < 3 || xid > 0xffff_ffff)
        return { ok: false, message: "A transaction id is a number from 3 to 4294967295." };
      return { ok: true, target: `xid:${text}`, exclusive: false };
    }
    case "lsn": {
      const text = form.lsn.trim();
      if (!isLsn(text))
        return { ok: false, message: "An LSN is two hexadecimal numbers, such as 0/3000060." };
      return { ok: true, target: `lsn:${text.toUpperCase()}`, exclusive: false };
    }
    case "name": {
      const text = form.name.trim();
      const bytes = new TextEncoder().encode(text).length;
      if (bytes < 1 || bytes > 63) return { ok: false, message: "A restore point's name has 1 to 63 bytes." };
      return { ok: true, target: `name:${text}`, exclusive: false };
    }
  }
}

/** The target as the engine takes it, or why what was typed is none. */
export function readTarget(form: TargetForm): TargetReading {
  const value = readValue(form);
  if (!value.ok) return value;
  return { ...value, exclusive: canExclude(form.kind) && form.exclusive };
}

/** Fills the form from `xid:742` and the like; an unknown target leaves it as it was. */
export function formFor(target: string | undefined, exclusive: boolean): TargetForm {
  if (target === undefined) return EMPTY_TARGET;
  const at = target.indexOf(":");
  const kind = at < 0 ? target : target.slice(0, at);
  const value = at < 0 ? "" : target.slice(at + 1);
  switch (kind) {
    case "time":
    case "xid":
    case "lsn":
      return { ...EMPTY_TARGET, kind, [kind]: value, exclusive };
    case "name":
      return { ...EMPTY_TARGET, kind, name: value };
    default:
      return EMPTY_TARGET;
  }
}

/** The four ways of naming a commit. A restore point has no transaction id of its own. */
export function targetsOf(
  commit: Commit,
): { kind: TargetKind; label: string; target: string; value: string }[] {
  const targets: { kind: TargetKind; label: string; target: string; value: string }[] = [];
  if (commit.kind === "restore_point" && commit.name !== null)
    targets.push({ kind: "name", label: "Name", target: `name:${commit.name}`, value: commit.name });
  if (commit.xid !== "" && commit.xid !== "0")
    targets.push({ kind: "xid", label: "Transaction", target: `xid:${commit.xid}`, value: commit.xid });
  targets.push({ kind: "lsn", label: "LSN", target: `lsn:${commit.lsn}`, value: commit.lsn });
  targets.push({ kind: "time", label: "Time", target: `time:${commit.time}`, value: commit.time });
  return targets;
}

export interface NearestTarget {
  target: string;
  label: string;
  time: string | null;
}

const TARGET = /^(latest|immediate|(?:time|xid|lsn|name):.+)$/;

function asNearest(value: unknown): NearestTarget | null {
  if (typeof value === "string")
    return TARGET.test(value) ? { target: value, label: value, time: null } : null;
  if (typeof value !== "object" || value === null) return null;
  const entry = value as Record<string, unknown>;
  const time = [entry.time, entry.commit_time].find((each) => typeof each === "string") as string | undefined;
  if (typeof entry.target === "string" && TARGET.test(entry.target))
    return { target: entry.target, label: entry.target, time: time ?? null };
  const xid = typeof entry.xid === "string" || typeof entry.xid === "number" ? String(entry.xid) : "";
  if (xid !== "" && xid !== "0")
    return { target: `xid:${xid}`, label: `transaction ${xid}`, time: time ?? null };
  if (typeof entry.name === "string")
    return { target: `name:${entry.name}`, label: entry.name, time: time ?? null };
  if (typeof entry.lsn === "string")
    return { target: `lsn:${entry.lsn}`, label: entry.lsn, time: time ?? null };
  return null;
}

/** The targets that would work, out of a refusal's details: each once, in the order they were named. */
export function nearestTargets(details: unknown): NearestTarget[] {
  if (typeof details !== "object" || details === null || !("nearest" in details)) return [];
  const { nearest } = details as { nearest: unknown };
  const found = new Map<string, NearestTarget>();
  for (const value of Array.isArray(nearest) ? nearest : [nearest]) {
    const each = asNearest(value);
    if (each && !found.has(each.target)) found.set(each.target, each);
  }
  return [...found.values()];
}
