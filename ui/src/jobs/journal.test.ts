import { describe, expect, test } from "vitest";
import type { JobEvent } from "../api/bindings";
import { journalOf } from "../testing/fake-engine";
import { jobEvent } from "../testing/world";
import { addEvent, addEvents, EMPTY_JOURNAL, hasEnded, phaseTitle, stallAfter } from "./journal";

function event(seq: number, more: Partial<JobEvent>): JobEvent {
  const at = new Date(Date.parse("2026-05-04T14:00:00Z") + seq * 1000).toISOString();
  return jobEvent(seq, { at, phase: "copying", ...more });
}

describe("a journal", () => {
  test("replayed twice says the same as once", () => {
    const events = journalOf("job-restore-done");
    const once = addEvents(EMPTY_JOURNAL, events);
    expect(addEvents(once, events)).toEqual(once);
    expect(once.phases.map((phase) => [phase.name, phase.state])).toEqual([
      ["fetching", "done"],
      ["replaying", "done"],
    ]);
    expect(once.ended).toBe("finished");
  });

  test("counts never run backwards and never turn from unknown to nought", () => {
    let view = addEvent(EMPTY_JOURNAL, event(1, { kind: "phase_started", unit: "bytes" }));
    expect(view.phases[0]).toMatchObject({ done: null, total: null });
    view = addEvents(view, [
      event(2, { done: 50 }),
      event(3, { done: 40 }),
      event(4, { total: 90 }),
      event(5, {}),
    ]);
    expect(view.phases[0]).toMatchObject({ done: 50, total: 90, unit: "bytes" });
  });

  test("a job that fails stops in its phase", () => {
    const view = addEvents(EMPTY_JOURNAL, [
      event(1, { kind: "phase_started" }),
      event(2, { kind: "failed", phase: "", message: "disk full" }),
      event(3, { kind: "log", message: "too late" }),
    ]);
    expect(view.phases[0]).toMatchObject({ state: "stopped" });
    expect(view.lines.map((line) => line.message)).toEqual(["disk full"]);
    expect(view.ended).toBe("failed");
  });

  test("a restore that is stepped forward goes on where its journal had ended", () => {
    const ended = addEvents(EMPTY_JOURNAL, [
      event(1, { kind: "phase_started" }),
      event(2, { kind: "finished" }),
    ]);
    expect(addEvent(ended, event(3, { kind: "log", message: "late" })).lines).toEqual([]);
    const again = addEvent(ended, event(3, { kind: "phase_started", phase: "replaying" }));
    expect(again.ended).toBeNull();
    expect(again.phases.at(-1)).toMatchObject({ name: "replaying", state: "running" });
  });

  test("the opening of a journal is no phase", () => {
    expect(addEvent(EMPTY_JOURNAL, event(1, { phase: "start", kind: "log", message: "x" })).phases).toEqual(
      [],
    );
  });

  test("keeps the newest lines and says how many it left out", () => {
    const events = Array.from({ length: 500 }, (_, i) => event(i + 1, { kind: "log", message: `line ${i}` }));
    const view = addEvents(EMPTY_JOURNAL, events);
    expect(view.lines).toHaveLength(400);
    expect(view.dropped).toBe(100);
  });

  test("silence counts as a stall only after three times the longest interval, and never for a WAL stream", () => {
    const quick = addEvents(EMPTY_JOURNAL, [event(1, {}), event(2, {})]);
    expect(stallAfter("backup", quick)).toBe(30);
    const slow = addEvents(EMPTY_JOURNAL, [event(1, {}), event(41, {})]);
    expect(stallAfter("backup", slow)).toBe(120);
    expect(stallAfter("archive", slow)).toBeNull();
  });

  test("a job has ended when its journal or its record says so", () => {
    expect(hasEnded("running", EMPTY_JOURNAL)).toBe(false);
    expect(hasEnded(undefined, EMPTY_JOURNAL)).toBe(false);
    expect(hasEnded("interrupted", EMPTY_JOURNAL)).toBe(true);
    expect(hasEnded("running", { ...EMPTY_JOURNAL, ended: "finished" })).toBe(true);
  });

  test("names are written as sentences", () => {
    expect(phaseTitle("waiting for the server's checkpoint")).toBe("Waiting for the server's checkpoint");
    expect(phaseTitle("checking_files")).toBe("Checking files");
  });
});
