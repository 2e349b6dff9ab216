import { screen, waitFor, within } from "@testing-library/react";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { makeNoPoints, makePoints } from "../testing/archive";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { NOW, OVERVIEW } from "../testing/world";
import { coverageOf, gapSpans } from "../wal/coverage";
import { worstFirst } from "./OverviewScreen";

beforeEach(() => vi.spyOn(Date, "now").mockReturnValue(Date.parse(NOW)));

describe("the overview", () => {
  test("puts whoever needs somebody first", () => {
    expect(worstFirst(OVERVIEW).map((each) => each.state)).toEqual([
      "broken",
      "unknown",
      "degraded",
      "stored",
      "verified",
      "proven",
    ]);
  });

  test("opens each card with the recoverability sentence and the state in words", async () => {
    mount("/overview");
    const card = await screen.findByRole("article", { name: "ledger" });
    expect(card.textContent).toContain(
      "Recoverable to 2026-05-04 14:31:58 UTC (23 s ago) · proven by a restore",
    );
    expect(within(card).getByText("Proven")).toBeTruthy();
    await waitFor(() => expect(within(card).getByRole("img").getAttribute("aria-label")).toContain("no gap"));
    const broken = screen.getByRole("article", { name: "billing" });
    await waitFor(() =>
      expect(within(broken).getByRole("img").getAttribute("aria-label")).toContain("1 gap"),
    );
    expect(broken.textContent).toContain("Not running here");
    expect(within(broken).getByRole("status").textContent).toContain(
      "A new backup is neededno backup has all the WAL that it needs itself",
    );
    expect(broken.textContent).toContain("Replication slotlost");
    expect(within(card).queryByRole("status")).toBeNull();
  });

  test("numbers that could not be determined are unknown, not nought", async () => {
    mount("/overview");
    const card = await screen.findByRole("article", { name: "archive-2019" });
    expect(card.textContent).toContain("Its state could not be determined");
    expect(card.textContent).toContain("Check the network");
    expect(within(card).getAllByText("unknown").length).toBeGreaterThanOrEqual(4);
    expect(card.textContent).not.toContain("0 snapshots");
    expect(requestsOf("points").some((each) => each.cluster === "archive-2019")).toBe(false);
  });

  test("backs up and opens the job; what runs already is linked instead", async () => {
    const { user, router } = mount("/overview");
    const running = await screen.findByRole("article", { name: "orders-eu" });
    expect(await within(running).findByRole("link", { name: "Backing up: Copying" })).toBeTruthy();
    expect(within(running).queryByRole("button", { name: "Back up now" })).toBeNull();
    const card = screen.getByRole("article", { name: "search" });
    await user.click(within(card).getByRole("button", { name: "Start archiving" }));
    await waitFor(() => expect(requestsOf("archive_start")).toEqual([{ cluster: "search" }]));
    await user.click(within(card).getByRole("button", { name: "Back up now" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/job/job-backup-running"));
    expect(requestsOf("backup_start")).toEqual([{ cluster: "search", reason: null }]);
  });

  test("a start that is refused stays on the card", async () => {
    fakeEngine.refuse("backup_start", {
      code: "x",
      message: "a backup runs already",
    });
    const { user } = mount("/overview");
    const card = await screen.findByRole("article", { name: "search" });
    await user.click(within(card).getByRole("button", { name: "Back up now" }));
    expect((await within(card).findByRole("alert")).textContent).toContain("The backup was not started");
  });

  test("coverage that could not be read is said to be unknown", async () => {
    fakeEngine.refuse("points", {
      code: "x",
      message: "index damaged",
    });
    mount("/overview");
    await waitFor(() =>
      expect(screen.getAllByText(/Coverage unknown: index damaged/).length).toBeGreaterThan(1),
    );
  });

  test("a cluster without a backup says so", async () => {
    fakeEngine.reset("empty");
    mount("/overview");
    const card = await screen.findByRole("article", { name: "orders-eu" });
    expect(card.textContent).toContain("there is no backup yet");
    await within(card).findByText("no commit is stored yet");
  });
});

describe("the first run", () => {
  beforeEach(() => fakeEngine.reset("first-run"));

  test("offers the demo and one's own cluster", async () => {
    const { user, router } = mount("/");
    await screen.findByRole("heading", { name: "Welcome to Holdfast" });
    expect(screen.getByRole("main").textContent).toContain("Takes about a minute");
    expect(screen.getByRole("link", { name: "Add a cluster" }).getAttribute("href")).toBe("/clusters/new");
    await user.click(screen.getByRole("button", { name: "Open the demo workspace" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/demo/job-demo-running"));
    expect(requestsOf("demo_start")).toEqual([{}]);
  });

  test("a demo that cannot start says why", async () => {
    fakeEngine.refuse("demo_start", {
      code: "no_server_binaries",
      message: "no PostgreSQL was found",
      hint: "Install one",
    });
    const { user } = mount("/overview");
    await user.click(await screen.findByRole("button", { name: "Open the demo workspace" }));
    expect((await screen.findByRole("alert")).textContent).toContain("no PostgreSQL was found");
  });
});

describe("coverage", () => {
  test("a gap lies between the last commit before it and the first after it", () => {
    const points = makePoints("billing");
    const [gap] = gapSpans(points);
    expect(gap?.from).toBe(Date.parse(points.windows[0]?.to ?? ""));
    expect(gap?.to).toBe(Date.parse(points.windows[1]?.from ?? ""));
  });

  test("nothing that is known means no picture", () => {
    expect(coverageOf(makeNoPoints("x"))).toBeNull();
  });

  test("a window without commits has no place in time", () => {
    const points = makePoints("ledger");
    const window = points.windows[0];
    if (!window) throw new Error("fixture");
    const found = coverageOf({ ...points, windows: [{ ...window, from: null, to: null, timeline: 3 }] });
    expect(found?.windows).toEqual([]);
    expect(found?.timelines).toEqual([3]);
  });
});
