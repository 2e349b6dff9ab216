import { describe, expect, test } from "vitest";
import { COMMITS } from "../testing/archive";
import {
  canExclude,
  EMPTY_TARGET,
  formFor,
  nearestTargets,
  readTarget,
  type TargetForm,
  targetsOf,
} from "./target";

const form = (more: Partial<TargetForm>): TargetForm => ({ ...EMPTY_TARGET, ...more });

describe("reading a target", () => {
  test.each([
    [form({ kind: "latest", exclusive: true }), "latest", false],
    [
      form({ kind: "time", time: "2026-05-04 16:31:58.412345 +02:00" }),
      "time:2026-05-04T14:31:58.412345Z",
      false,
    ],
    [form({ kind: "xid", xid: " 742 ", exclusive: true }), "xid:742", true],
    [form({ kind: "lsn", lsn: "0/3a0060", exclusive: true }), "lsn:0/3A0060", true],
    [form({ kind: "name", name: "before deploy", exclusive: true }), "name:before deploy", false],
  ])("%o", (input, target, exclusive) => {
    expect(readTarget(input)).toEqual({ ok: true, target, exclusive });
  });

  test.each([
    form({ kind: "time" }),
    form({ kind: "time", time: "soon" }),
    form({ kind: "time", time: "2026-02-30 10:00 UTC" }),
    form({ kind: "xid", xid: "2" }),
    form({ kind: "xid", xid: "4294967296" }),
    form({ kind: "xid", xid: "12a" }),
    form({ kind: "lsn", lsn: "3000060" }),
    form({ kind: "name", name: " " }),
    form({ kind: "name", name: "ü".repeat(40) }),
  ])("refuses %o with a reason", (input) => {
    const reading = readTarget(input);
    expect(reading.ok).toBe(false);
    if (!reading.ok) expect(reading.message.length).toBeGreaterThan(10);
  });

  test("a time without an offset keeps its wall clock for the question that follows", () => {
    const reading = readTarget(form({ kind: "time", time: "2026-05-04 14:31" }));
    expect(reading).toMatchObject({ ok: false, wall: { hour: 14, minute: 31 } });
  });

  test("only places in the WAL can be left out", () => {
    expect((["latest", "time", "xid", "lsn", "name"] as const).filter(canExclude)).toEqual([
      "time",
      "xid",
      "lsn",
    ]);
  });
});

test.each(["time:2026-05-04T14:31:58.412345Z", "xid:742", "lsn:0/3A0060", "name:a:b", "latest"])(
  "%s fills the form with itself",
  (target) => expect(readTarget(formFor(target, false))).toMatchObject({ ok: true, target }),
);

test("nothing and nonsense leave the form empty", () => {
  expect(formFor(undefined, true)).toEqual(EMPTY_TARGET);
  expect(formFor("tomorrow:1", true)).toEqual(EMPTY_TARGET);
});

test("a commit has three forms, a restore point a name and no transaction", () => {
  const commit = COMMITS[0];
  const point = COMMITS.find((each) => each.kind === "restore_point");
  if (!commit || !point) throw new Error("fixture");
  expect(targetsOf(commit).map((each) => each.kind)).toEqual(["xid", "lsn", "time"]);
  expect(targetsOf(point).map((each) => each.kind)).toEqual(["name", "lsn", "time"]);
});

test("the nearest targets are read from a refusal's details, each once", () => {
  const details = {
    target: "xid:99",
    nearest: [
      { target: "xid:7", time: "2026-05-04T14:00:00Z" },
      { target: "xid:7" },
      { xid: 8, commit_time: "2026-05-04T14:01:00Z" },
      { name: "p" },
      { lsn: "0/1" },
      "latest",
      "rubbish",
      null,
      {},
    ],
  };
  expect(nearestTargets(details).map((each) => each.target)).toEqual([
    "xid:7",
    "xid:8",
    "name:p",
    "lsn:0/1",
    "latest",
  ]);
  expect(nearestTargets({ nearest: { target: "xid:9" } })).toHaveLength(1);
  expect(nearestTargets(null)).toEqual([]);
  expect(nearestTargets({})).toEqual([]);
});
