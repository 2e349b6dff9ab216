import { fireEvent, screen, waitFor, within } from "@testing-library/react";
import { beforeEach, describe, expect, test, vi } from "vitest";
import type { Commit, Timeline } from "../api/bindings";
import { formatCount } from "../elements/Bytes";
import { readSpan, writeSpan } from "../shell/links";
import { COMMITS, makeMarkers, makePoints, makeTimeline } from "../testing/archive";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { NOW } from "../testing/world";
import { ticks } from "./axis";
import { fullView, MIN_SPAN, pan, position, reveal, timeAt, zoom } from "./viewport";

beforeEach(() => vi.spyOn(Date, "now").mockReturnValue(Date.parse(NOW)));

describe("the viewport", () => {
  const bounds = { from: 0, to: 1000 };

  test("zooming keeps the place under the pointer where it is", () => {
    const view = zoom(bounds, 0.5, 250, bounds);
    expect(position(view, 100)(250)).toBeCloseTo(25);
    expect(timeAt(view, 100, 25)).toBeCloseTo(250);
  });

  test("never leaves what is stored and never shows less than can be told apart", () => {
    expect(zoom({ from: 100, to: 200 }, 100, 150, bounds)).toEqual(bounds);
    expect(pan({ from: 900, to: 1000 }, 5, bounds)).toEqual({ from: 900, to: 1000 });
    expect(pan({ from: 0, to: 100 }, -5, bounds)).toEqual({ from: 0, to: 100 });
    let view = bounds;
    for (let i = 0; i < 30; i += 1) view = zoom(view, 0.5, 500, bounds);
    expect(view.to - view.from).toBeCloseTo(MIN_SPAN);
  });

  test("moves only as far as it must to bring a commit into sight", () => {
    const view = { from: 100, to: 200 };
    expect(reveal(view, 150, bounds)).toBe(view);
    expect(reveal(view, 600, bounds)).toEqual({ from: 550, to: 650 });
  });

  test("leaves room for what is not stored yet", () => {
    const view = fullView({ from: 0, to: 100 });
    expect(view.from).toBeLessThan(0);
    expect(view.to).toBeGreaterThan(100);
  });
});

describe("the axis", () => {
  const at = (text: string) => Date.parse(text);

  test.each([
    ["2025-11-20T00:00Z", "2026-08-20T00:00Z", "2026"],
    ["2026-05-01T00:00Z", "2026-05-05T00:00Z", "May 2"],
    ["2026-05-04T10:00Z", "2026-05-04T14:00Z", "12:00"],
    ["2026-05-04T10:00:00Z", "2026-05-04T10:00:40Z", "10:00:10"],
    ["2026-05-04T10:00:00.000Z", "2026-05-04T10:00:00.400Z", "00.100"],
  ])("from %s to %s says %s", (from, to, label) => {
    expect(ticks({ from: at(from), to: at(to) }, 900, "utc").map((tick) => tick.label)).toContain(label);
  });

  test("days begin where the zone that is shown begins them", () => {
    const view = { from: at("2026-05-03T12:00Z"), to: at("2026-05-05T12:00Z") };
    const day = ticks(view, 900, "local").find((tick) => tick.label === "May 4");
    expect(day?.time).toBe(at("2026-05-04T02:30Z"));
  });
});

function selected(): Promise<HTMLElement> {
  return screen.findByRole("region", { name: "Selected point" });
}

const slider = () => screen.getByRole("slider", { name: "Recovery point" });

function stop(index: number): Commit {
  const stops = COMMITS.filter((each) => each.kind !== "abort");
  const found = stops.at(index);
  if (!found) throw new Error("fixture");
  return found;
}

async function expectSelected(commit: Commit) {
  await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toContain(commit.xid));
}

test.each([
  ["10m", 600_000],
  ["250ms", 250],
  ["36h", 129_600_000],
  ["0s", null],
  ["10", null],
  ["-3m", null],
])("a zoom of %s is %s ms", (text, span) => expect(readSpan(text)).toBe(span));

test.each([600_000, 250, 129_600_000, 86_400_000 * 400])(
  "a stretch of %s ms is written so that it is read back",
  (span) => expect(readSpan(writeSpan(span))).toBe(span),
);

describe("the timeline", () => {
  test("starts at the newest commit and names it in every form", async () => {
    mount("/c/orders-eu/timeline");
    const panel = await selected();
    const newest = stop(-1);
    expect(within(panel).getByRole("heading").textContent).toBe(`Transaction ${newest.xid}`);
    for (const text of [newest.xid, newest.lsn, "UTC"]) expect(panel.textContent).toContain(text);
    expect(panel.textContent).toContain("After it: none is stored");
    expect(within(panel).getByRole("button", { name: "Copy lsn" })).toBeTruthy();
  });

  test("arrow keys step over commits and never stand on one that was rolled back", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    slider().focus();
    await user.keyboard("{ArrowLeft}");
    await expectSelected(stop(-2));
    await user.keyboard("{Shift>}{ArrowLeft}{/Shift}");
    await expectSelected(stop(-12));
    await user.keyboard("{ArrowRight}");
    await expectSelected(stop(-11));
    await user.keyboard("{Shift>}{ArrowRight}{/Shift}");
    await expectSelected(stop(-1));
    await user.keyboard("{Home}");
    await expectSelected(stop(0));
    await user.keyboard("{End}");
    await expectSelected(stop(-1));
  });

  test("zooms by button and key, and shows everything again", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    expect(screen.getByText(/3 d 20 h shown/)).toBeTruthy();
    await user.click(screen.getByRole("button", { name: "Zoom in" }));
    await screen.findByText(/1 d 22 h shown/);
    slider().focus();
    await user.keyboard("+");
    await screen.findByText(/2[23] h .*shown/);
    await user.keyboard("-");
    await screen.findByText(/1 d 22 h shown/);
    await user.click(screen.getByRole("button", { name: "Earlier" }));
    await user.click(screen.getByRole("button", { name: "Later" }));
    await user.keyboard("{Tab}");
    slider().focus();
    await user.keyboard("0");
    await screen.findByText(/3 d 20 h shown/);
    fireEvent.wheel(slider(), { deltaY: -300 });
    await waitFor(() => expect(screen.queryByText(/3 d 20 h shown/)).toBeNull());
    fireEvent.wheel(slider(), { deltaX: 300 });
    await user.click(screen.getByRole("button", { name: "Everything" }));
    await screen.findByText(/3 d 20 h shown/);
  });

  test("a click snaps to the nearest commit, a drag moves the picture", async () => {
    mount("/c/orders-eu/timeline");
    await selected();
    fireEvent.pointerMove(slider(), { clientX: 300 });
    fireEvent.pointerDown(slider(), { clientX: 300, button: 0, pointerId: 1 });
    fireEvent.pointerUp(slider(), { clientX: 300, button: 0, pointerId: 1 });
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toContain("2026-05-02"));
    const before = requestsOf("commits").length;
    fireEvent.pointerDown(slider(), { clientX: 300, button: 0, pointerId: 1 });
    fireEvent.pointerMove(slider(), { clientX: 200 });
    fireEvent.pointerUp(slider(), { clientX: 200, button: 0, pointerId: 1 });
    fireEvent.pointerCancel(slider());
    fireEvent.pointerLeave(slider());
    expect(requestsOf("commits")).toHaveLength(before);
  });

  test("the link to the restore carries form and side, and nothing more", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    const panel = await selected();
    const href = () =>
      within(panel).getByRole("link", { name: "Restore to here…" }).getAttribute("href") ?? "";
    const newest = stop(-1);
    expect(decodeURIComponent(href())).toBe(`/c/orders-eu/restore/new?target=xid:${newest.xid}`);
    await user.click(within(panel).getByRole("radio", { name: /^Everything before it/ }));
    await user.click(within(panel).getByRole("radio", { name: /^LSN/ }));
    expect(decodeURIComponent(href())).toBe(
      `/c/orders-eu/restore/new?target=lsn:${newest.lsn}&exclusive=true`,
    );
  });

  test("a link leads back to its commit, and the address follows the cursor", async () => {
    const wanted = COMMITS[700];
    if (!wanted) throw new Error("fixture");
    const { router, user } = mount(`/c/orders-eu/timeline?at=${wanted.time}&xid=${wanted.xid}`);
    const panel = await selected();
    expect(panel.textContent).toContain(wanted.xid);
    await user.click(within(panel).getByRole("button", { name: "Next commit" }));
    await waitFor(() =>
      expect(router.state.location.search).not.toEqual({ at: wanted.time, xid: wanted.xid }),
    );
    expect(router.state.location.search).toMatchObject({ xid: expect.stringMatching(/^\d+$/) });
  });

  test("a transaction that is not found is said to, and the nearest commit shown", async () => {
    mount("/c/orders-eu/timeline?at=2026-05-03T10:00:00Z&xid=5");
    await screen.findByText(/Transaction 5 does not stand near that time/);
    await selected();
  });

  test("a transaction without a time is looked for in all that is stored", async () => {
    mount("/c/orders-eu/timeline?xid=5");
    await screen.findByText(/Transaction 5 did not end in the WAL that is stored/);
  });

  test("the tables say what the picture says, and are there for screen readers from the start", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    const gaps = await screen.findByRole("table", { name: "Gaps" });
    expect(gaps.textContent).toContain("WAL removed: the server had removed this WAL");
    expect(screen.queryByRole("button", { name: /^Select/ })).toBeNull();
    await user.click(screen.getByRole("button", { name: "Show as tables" }));
    await user.click(screen.getByRole("button", { name: "Select before-deploy-418" }));
    const panel = await selected();
    await waitFor(() => expect(panel.textContent).toContain("before-deploy-418"));
    expect(panel.textContent).toContain("By name, the copy holds everything before the restore point");
    expect(within(panel).getByRole("link", { name: "Restore to here…" }).getAttribute("href")).toContain(
      "before-deploy-418",
    );
    const commits = screen.getByRole("table", { name: "Commits around the selected one" });
    expect(commits.querySelectorAll("tr[aria-current]")).toHaveLength(1);
  });

  test("forks of the timeline stand in rows of their own", async () => {
    const points = makePoints("orders-eu");
    fakeEngine.answerWith("points", () => ({
      ...points,
      windows: points.windows.map((window, index) => ({ ...window, timeline: index + 1, gaps: [] })),
    }));
    const { container } = mount("/c/orders-eu/timeline");
    await selected();
    expect(container.querySelector("svg")).not.toBeNull();
    expect(container.textContent).toContain("TLI 1");
    expect(container.textContent).toContain("TLI 2");
  });

  test("off the commits on request, and back onto the nearest one by a step", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    const panel = await selected();
    slider().focus();
    await user.keyboard("{Alt>}{ArrowLeft}{/Alt}");
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toMatch(/^no commit, at /));
    expect(panel.textContent).toContain("A time between commits");
    const href = within(panel).getByRole("link", { name: "Restore to here…" }).getAttribute("href") ?? "";
    expect(decodeURIComponent(href)).toContain("target=time:2026-05-04T");
    await user.keyboard("{ArrowRight}");
    await expectSelected(stop(-1));
    fireEvent.pointerDown(slider(), { clientX: 300, button: 0, pointerId: 1 });
    fireEvent.pointerUp(slider(), { clientX: 300, button: 0, pointerId: 1, altKey: true });
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toMatch(/^no commit, at 2026-05-02/));
  });

  test("brackets go to snapshots and restore points, N to the newest commits closely", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    slider().focus();
    await user.keyboard("{[}");
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toMatch(/^no commit, at 2026-05-04/));
    for (let presses = 0; presses < 8; presses += 1) {
      if (slider().getAttribute("aria-valuetext")?.includes("before-migration-77")) break;
      const before = slider().getAttribute("aria-valuetext");
      await user.keyboard("{[}");
      await waitFor(() => expect(slider().getAttribute("aria-valuetext")).not.toBe(before));
    }
    expect(slider().getAttribute("aria-valuetext")).toContain("restore point “before-migration-77”");
    await user.keyboard("]");
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toMatch(/^no commit/));
    await user.keyboard("n");
    await expectSelected(stop(-1));
    await screen.findByText(/15 min shown/);
  });

  test("goes to what is typed in any of the four forms, and says what is none of them", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    const field = screen.getByLabelText("Go to", { selector: "input" });
    const go = async (text: string) => {
      await user.clear(field);
      await user.type(field, `${text}{Enter}`);
    };
    await go(stop(500).xid);
    await expectSelected(stop(500));
    await go(stop(700).lsn.toLowerCase());
    await expectSelected(stop(700));
    await go("before-deploy-418");
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toContain("before-deploy-418"));
    await go("2026-05-03 10:00 UTC");
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toContain("2026-05-03 "));
    await go("2026-05-03 10:00");
    expect(screen.getByRole("alert").textContent).toContain("offset");
    await go("yesterday");
    expect(screen.getByRole("alert").textContent).toContain("no time");
    const aborted = COMMITS.find((each, index) => each.kind === "abort" && index > 100);
    await go(aborted?.xid ?? "");
    await screen.findByText(/was rolled back: nothing of it counts/);
    await go("0/5A000101");
    await screen.findByText(/No transaction ended exactly at/);
  });

  test("what deleted a table is found, drawn, stepped to, and restored to just before", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    const panel = await selected();
    await user.click(screen.getByRole("button", { name: "Search" }));
    const found = await screen.findByRole("region", { name: "What was found" });
    expect(requestsOf("find")[0]).toMatchObject({
      drops: true,
      truncates: true,
      mass_deletes: true,
      table: null,
    });
    expect(found.textContent).toContain(`${formatCount(214_388)} deleted`);
    expect(found.textContent).toContain("rolled back: nothing of it counts");
    expect(screen.getByText(/WAL is missing in between/)).toBeTruthy();
    expect(screen.getByRole("table", { name: "Destructive events" }).textContent).toContain("public.guests");
    const links = within(found).getAllByRole("link", { name: "Restore to just before…" });
    expect(links).toHaveLength(2);
    expect(decodeURIComponent(links[0]?.getAttribute("href") ?? "")).toMatch(
      /target=xid:\d+&exclusive=true$/,
    );
    const [go] = within(found).getAllByRole("button", { name: /^Go to just before transaction/ });
    await user.click(go as HTMLElement);
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toContain("2026-05-03"));
    expect(
      within(panel).getByRole<HTMLInputElement>("radio", { name: /^Everything before it/ }).checked,
    ).toBe(true);
    slider().focus();
    await user.keyboard("}");
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toContain("2026-05-04"));
    await user.keyboard("{{");
    await waitFor(() => expect(slider().getAttribute("aria-valuetext")).toContain("2026-05-03"));
  });

  test("what the index knows to be destroyed is drawn and told before anybody searches", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    const told = await screen.findByRole("table", { name: "Destructive events" });
    for (const text of [
      "DELETE from public.guests",
      `${formatCount(214_388)} deleted`,
      "Rewrite of public.messages",
      "DROP of 3 tables whose names are not known",
    ])
      expect(told.textContent).toContain(text);
    expect(requestsOf("find")).toEqual([]);
    slider().focus();
    for (const [key, index] of [
      ["{{", 3400],
      ["{{", 2300],
      ["}", 3400],
    ] as const) {
      await user.keyboard(key);
      await expectSelected(COMMITS[index] as Commit);
    }
    // A search that finds the same tells it once.
    await user.click(screen.getByRole("button", { name: "Search" }));
    await screen.findByRole("region", { name: "What was found" });
    const rows = within(screen.getByRole("table", { name: "Destructive events" })).getAllByRole("row");
    expect(rows.filter((row) => row.textContent?.includes("public.guests"))).toHaveLength(1);
  });

  test("where it is not known what was destroyed is said, and that WAL is read on request", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    const unknown = await screen.findByRole("table", { name: "Destructive events not known" });
    expect(unknown.textContent).toContain(COMMITS[0]?.lsn);
    await screen.findByText(/grey: not known/);
    await user.click(screen.getByRole("button", { name: "Read this WAL" }));
    await waitFor(() =>
      expect(screen.queryByRole("table", { name: "Destructive events not known" })).toBeNull(),
    );
    expect(requestsOf("markers").filter((each) => each.rebuild)).toHaveLength(1);
    expect(screen.queryByRole("button", { name: "Read this WAL" })).toBeNull();
  });

  test("markers that cannot be read are not told as none", async () => {
    fakeEngine.refuse("markers", { code: "corrupt", message: "the index is damaged" });
    mount("/c/orders-eu/timeline");
    await selected();
    await screen.findByText("the index is damaged");
    const told = await screen.findByText("Destructive events:");
    expect(told.parentElement?.textContent).toBe("Destructive events: could not be read.");
  });

  test("more transactions than are named are counted", async () => {
    fakeEngine.answerWith("markers", (request) => ({
      ...makeMarkers({ ...request, limit: 1 }, true),
      buckets: [{ deletes: 1, rewrites: 0, truncates: 0, drops: 2, databases: 0 }],
    }));
    mount("/c/orders-eu/timeline");
    await selected();
    await screen.findByText("3 more transactions: zoom in");
  });

  test("a named table is asked for whole, and a search that fails says so", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    await selected();
    await user.type(screen.getByLabelText("Table"), "guests");
    await user.click(screen.getByRole("radio", { name: /^In everything/ }));
    await user.click(screen.getByRole("button", { name: "Search" }));
    await screen.findByRole("region", { name: "What was found" });
    expect(requestsOf("find")[0]).toMatchObject({ table: "guests", drops: false, from: null, to: null });
    await user.type(screen.getByLabelText("Table"), "2");
    await user.click(screen.getByRole("button", { name: "Search" }));
    await screen.findByText(/Nothing of the kind was found/);
    fakeEngine.refuse("find", {
      code: "corrupt",
      message: "the WAL is damaged",
    });
    await user.click(screen.getByRole("button", { name: "Search" }));
    await screen.findByText("the WAL is damaged");
  });

  test("P previews what would be lost, worked out by the engine and writing nothing", async () => {
    const { user } = mount("/c/orders-eu/timeline");
    const panel = await selected();
    expect(requestsOf("restore_plan")).toEqual([]);
    slider().focus();
    await user.keyboard("p");
    await waitFor(() => expect(panel.textContent).toContain("Committed transactions"));
    for (const text of ["38", "4.21 MiB", "224", "9 min to 13 min 30 s"])
      expect(panel.textContent).toContain(text);
    expect(
      within(panel).getByRole("table", { name: "Rows per table that the copy leaves out" }).textContent,
    ).toContain("timeline_items");
    expect(requestsOf("restore_run")).toEqual([]);
  });

  test("a preview that is refused names what would work and goes there", async () => {
    fakeEngine.refuse("restore_plan", {
      code: "target_in_gap",
      message: "it lies in a gap",
      details: { nearest: [{ target: `xid:${stop(500).xid}` }] },
    });
    const { user } = mount("/c/orders-eu/timeline");
    const panel = await selected();
    await user.click(within(panel).getByRole("button", { name: "Preview what would be lost" }));
    await user.click(await within(panel).findByRole("button", { name: /^Use xid:/ }));
    await expectSelected(stop(500));
  });

  test("a link carries how closely it looks and along which timeline", async () => {
    const { router } = mount("/c/forked/timeline?zoom=10m&tli=2");
    await selected();
    await screen.findByText(/10 min shown/);
    expect(screen.getByLabelText<HTMLSelectElement>("Commits of timeline").value).toBe("2");
    expect(requestsOf("commits")[0]).toMatchObject({ timeline: 2 });
    expect(requestsOf("timeline").some((each) => each.timeline === 2 && each.shown !== null)).toBe(true);
    await waitFor(() => expect(router.state.location.search).toMatchObject({ zoom: "10m", tli: "2" }));
  });

  test("many snapshots stand as groups with their number and their worst state", async () => {
    const points = makePoints("orders-eu");
    const [one] = points.snapshots;
    if (!one) throw new Error("fixture");
    fakeEngine.answerWith("points", () => ({
      ...points,
      snapshots: Array.from({ length: 500 }, (_, index) => ({
        ...one,
        id: `s${index}`,
        state: index === 250 ? ("broken" as const) : ("stored" as const),
        finished_at: new Date(Date.parse(NOW) - index * 600_000).toISOString(),
        started_at: new Date(Date.parse(NOW) - index * 600_000 - 60_000).toISOString(),
      })),
    }));
    mount("/c/orders-eu/timeline");
    await selected();
    const table = await screen.findByRole("table", { name: "Snapshots" });
    expect(table.textContent).toContain("snapshots");
    expect(table.querySelectorAll("tbody tr").length).toBeLessThan(70);
  });

  test("what is shown from memory says so, and a repository that cannot be read again says why", async () => {
    const points = makePoints("orders-eu");
    let problem: Timeline["problem"] = null;
    fakeEngine.answerWith("timeline", (request) => ({
      ...makeTimeline(points, request),
      read_at: null,
      reading: true,
      problem,
    }));
    const { unmount } = mount("/c/orders-eu/timeline");
    await screen.findByText(/This is what this machine remembers/);
    unmount();
    problem = { code: "unreachable", message: "no route", hint: null, retryable: true, details: null };
    mount("/c/orders-eu/timeline");
    await screen.findByText("no route");
    expect(screen.getByText(/What is shown is what this machine remembers/)).toBeTruthy();
  });

  test("an empty archive says what would fill it", async () => {
    fakeEngine.reset("empty");
    mount("/c/orders-eu/timeline");
    await screen.findByText("Nothing is stored yet");
  });

  test("a snapshot without any commit leaves nothing to select", async () => {
    fakeEngine.answerWith("commits", () => ({ commits: [], earlier: false, later: false }));
    mount("/c/orders-eu/timeline");
    await screen.findByText(/No commit is stored yet; only the snapshots/);
  });

  test("what cannot be read is said to", async () => {
    fakeEngine.refuse("commits", {
      code: "corrupt",
      message: "the index is damaged",
    });
    mount("/c/orders-eu/timeline");
    await screen.findByText("the index is damaged");
  });
});
