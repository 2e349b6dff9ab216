import { render } from "@testing-library/react";
import { afterEach, describe, expect, test, vi } from "vitest";
import { formatAge, formatDuration, formatTime, secondsBetween } from "./format";
import { formatOffset, parseTime, readAsLocal, readAsUtc } from "./parse";
import { Ago, Duration, Time } from "./Time";
import { ZoneProvider } from "./zone";

function inZone<T>(zone: string, work: () => T): T {
  const before = process.env.TZ;
  process.env.TZ = zone;
  try {
    return work();
  } finally {
    process.env.TZ = before;
  }
}

afterEach(() => vi.useRealTimers());

describe("reading times", () => {
  test.each([
    ["2026-05-04 14:31:58.412 UTC", "2026-05-04T14:31:58.412Z"],
    ["2026-05-04T14:31:58Z", "2026-05-04T14:31:58.000Z"],
    ["2026-05-04 14:31:58.412345+02:00", "2026-05-04T12:31:58.412345Z"],
    ["2026-05-04 14:31 +0545", "2026-05-04T08:46:00.000Z"],
    ["2026-05-04 14:31:58 -03:30", "2026-05-04T18:01:58.000Z"],
    ["2026-05-04 14:31:58+02", "2026-05-04T12:31:58.000Z"],
    ["2026-12-31 23:59:59.123456789 Z", "2026-12-31T23:59:59.123456789Z"],
  ])("%s is %s", (text, utc) => {
    expect(parseTime(text)).toMatchObject({ ok: true, utc });
  });

  test("a time without an offset is refused and says which wall-clock time it is", () => {
    expect(parseTime("2026-05-04 14:31:58")).toMatchObject({ ok: false, reason: "zone", wall: { hour: 14 } });
  });

  test.each([
    "2026-02-30 10:00 UTC",
    "2026-05-04 24:00 UTC",
    "2026-13-01 00:00 Z",
    "2026-05-04 10:00 +19:00",
  ])("%s does not exist", (text) => expect(parseTime(text)).toEqual({ ok: false, reason: "range" }));

  test.each(["", "yesterday", "14:31", "2026-05-04", "04.05.2026 14:31 UTC"])("%s is no time", (text) => {
    expect(parseTime(text).ok).toBe(false);
  });

  test("a wall-clock time has two readings in the hour that is repeated and none in the one that is skipped", () => {
    const wall = (hour: number, month: number, day: number) => ({
      year: 2026,
      month,
      day,
      hour,
      minute: 30,
      second: 0,
      fraction: "5",
    });
    inZone("Europe/Berlin", () => {
      expect(readAsLocal(wall(2, 10, 25)).map((each) => each.offset)).toEqual(["+02:00", "+01:00"]);
      expect(readAsLocal(wall(2, 3, 29))).toEqual([]);
      expect(readAsLocal(wall(12, 5, 4))).toEqual([{ utc: "2026-05-04T10:30:00.500Z", offset: "+02:00" }]);
    });
    expect(readAsUtc(wall(2, 10, 25))).toBe("2026-10-25T02:30:00.500Z");
  });

  test("offsets of every sign and size are printed in full", () => {
    expect([345, -150, 0, 840].map(formatOffset)).toEqual(["+05:45", "-02:30", "+00:00", "+14:00"]);
  });
});

describe("writing times", () => {
  const value = "2026-05-04T14:31:58.412345Z";

  test.each([
    ["America/St_Johns", "2026-05-04 12:01:58.412 -02:30"],
    ["Asia/Kathmandu", "2026-05-04 20:16:58.412 +05:45"],
    ["Europe/Berlin", "2026-05-04 16:31:58.412 +02:00"],
  ])("in %s the local form differs and UTC does not", (zone, local) => {
    inZone(zone, () => {
      expect(formatTime(value, "utc")).toBe("2026-05-04 14:31:58.412 UTC");
      expect(formatTime(value, "local")).toBe(local);
    });
  });

  test("digits are cut, never rounded up", () => {
    expect(formatTime("2026-05-04T14:31:58.999999Z", "utc", { digits: 3 })).toBe(
      "2026-05-04 14:31:58.999 UTC",
    );
    expect(formatTime("2026-05-04T14:31:58Z", "utc", { digits: 6 })).toBe("2026-05-04 14:31:58.000000 UTC");
    expect(formatTime("nonsense", "utc")).toBeNull();
  });

  test("every time that is written is read back as the same instant", () => {
    for (const zone of ["utc", "local"] as const) {
      const text = formatTime(value, zone, { digits: 6 }) ?? "";
      expect(parseTime(text)).toMatchObject({ ok: true, utc: value });
    }
  });

  test.each([
    [0, "0 s"],
    [0.000_35, "0.35 ms"],
    [0.04, "40 ms"],
    [0.5, "0.5 s"],
    [3.44, "3.4 s"],
    [59, "59 s"],
    [252, "4 min 12 s"],
    [7500, "2 h 5 min"],
    [273_600, "3 d 4 h"],
    [-90, "−1 min 30 s"],
  ])("%d seconds are %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text));

  test("spans are told to the microsecond", () => {
    expect(secondsBetween("2026-05-04T14:31:58.412345Z", "2026-05-04T14:31:58.412695Z")).toBeCloseTo(
      0.000_35,
      7,
    );
    expect(secondsBetween("2026-05-04T14:31:58Z", "2026-05-04T14:31:57.5Z")).toBeCloseTo(-0.5);
  });

  test("ages look both ways", () => {
    const now = Date.parse("2026-05-04T14:32:21Z");
    expect(formatAge("2026-05-04T14:31:58Z", now)).toBe("23 s ago");
    expect(formatAge("2026-05-04T14:36:21Z", now)).toBe("in 4 min");
    expect(formatAge("never", now)).toBeNull();
  });
});

describe("the components", () => {
  test("a time that is not known is called unknown", () => {
    const { container } = render(
      <>
        <Time value={null} />
        <Time value="nonsense" />
        <Ago value={null} />
        <Duration seconds={null} />
      </>,
    );
    expect(container.textContent).toBe("unknownunknownunknownunknown");
  });

  test("both forms stand together, each with its offset", () => {
    const { container } = render(
      <ZoneProvider>
        <Time value="2026-05-04T14:31:58.412Z" both />
      </ZoneProvider>,
    );
    expect(container.querySelector("time")?.dateTime).toBe("2026-05-04T14:31:58.412Z");
    expect(container.textContent).toBe("2026-05-04 14:31:58.412 UTC2026-05-04 12:01:58.412 -02:30");
  });
});
