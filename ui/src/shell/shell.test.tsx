import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { fakeEngine } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { placeOf, shortId } from "./crumbs";
import { parseSearch, readDeepLink, restoreSearch, stringifySearch, timelineSearch } from "./links";
import { matchShortcut, pressOf, printKeys, SHORTCUTS, takesKeys } from "./shortcuts";

const press = (key: string, more: Partial<KeyboardEvent> = {}) =>
  pressOf({ key, ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, ...more });

describe("shortcuts", () => {
  test("no two of a scope share a key, and none begins another", () => {
    for (const scope of ["global", "timeline"]) {
      const keys = SHORTCUTS.filter((each) => each.scope === scope).flatMap((each) => [...each.keys]);
      expect(new Set(keys).size).toBe(keys.length);
      for (const key of keys) expect(keys.filter((other) => other.startsWith(`${key} `))).toEqual([]);
    }
  });

  test("presses are named as the registry names them", () => {
    expect(press("?", { shiftKey: true })).toBe("?");
    expect(press("ArrowLeft", { shiftKey: true })).toBe("shift+arrowleft");
    expect(press("j", { metaKey: true })).toBe("mod+j");
    expect(press("Shift")).toBeNull();
    expect(press("u", { altKey: true })).toBeNull();
    expect(press("ArrowLeft", { altKey: true })).toBe("alt+arrowleft");
  });

  test("sequences wait for their second key", () => {
    expect(matchShortcut("g", "global", null)).toEqual({ pending: "g" });
    expect(matchShortcut("t", "global", "g")).toEqual({ id: "go-timeline" });
    expect(matchShortcut("x", "global", "g")).toBeNull();
    expect(matchShortcut("x", "global", null)).toBeNull();
  });

  test("keys are printed as they stand on the keyboard", () => {
    expect(printKeys("mod+j", false)).toEqual(["Ctrl", "J"]);
    expect(printKeys("mod+j", true)).toEqual(["⌘", "J"]);
    expect(printKeys("g o")).toEqual(["G", "O"]);
    expect(printKeys("+")).toEqual(["+"]);
    expect(printKeys("shift+arrowleft")).toEqual(["Shift", "←"]);
  });

  test("what is typed into a field is no shortcut", () => {
    document.body.innerHTML = '<input type="text"><input type="radio"><select></select><p></p>';
    const [text, radio, select, paragraph] = [...document.body.children];
    expect([text, radio, select, paragraph].map((each) => takesKeys(each ?? null))).toEqual([
      true,
      false,
      true,
      false,
    ]);
    document.body.innerHTML = "";
  });
});

describe("links", () => {
  test.each([
    ["holdfast://v1/overview", "/overview"],
    [
      "holdfast://v1/c/orders-eu/timeline?at=2026-05-04T14:31:58.412Z&xid=742",
      "/c/orders-eu/timeline?at=2026-05-04T14:31:58.412Z&xid=742",
    ],
    [
      "holdfast://v1/c/orders-eu/restore/new?target=xid:742&exclusive=true",
      "/c/orders-eu/restore/new?target=xid:742&exclusive=true",
    ],
    ["holdfast://v1/restore/0196a0b0-5c7e", "/restore/0196a0b0-5c7e"],
  ])("%s leads to %s", (link, path) => expect(readDeepLink(link)).toBe(path));

  test.each([
    "https://v1/overview",
    "holdfast://v2/overview",
    "holdfast://user@v1/overview",
    "holdfast://v1:80/overview",
    "holdfast://v1/overview#x",
    "holdfast://v1/overview?run=1",
    "holdfast://v1/c/a%2Fb/timeline",
    "holdfast://v1/c/../settings",
    "holdfast://v1/restore/run",
    "holdfast://v1/api/call/restore_run",
    "nonsense",
    `holdfast://v1/overview?at=${"1".repeat(2000)}`,
  ])("%s is refused or leads to a screen that only shows", (link) => {
    const path = readDeepLink(link);
    if (path !== null) expect(path).toMatch(/^\/(settings|restore\/run)$/);
  });

  test("search parameters stay strings and are checked", () => {
    expect(parseSearch("?xid=742&at=x")).toEqual({ xid: "742", at: "x" });
    expect(stringifySearch({ xid: "742", at: undefined })).toBe("?xid=742");
    expect(stringifySearch({})).toBe("");
    expect(timelineSearch({ at: "2026-05-04T14:00:00+02:00", xid: "7x" })).toEqual({
      at: "2026-05-04T12:00:00.000Z",
    });
    expect(timelineSearch({ at: "2026-05-04 14:00", xid: "742" })).toEqual({ xid: "742" });
    expect(restoreSearch({ target: "xid:1; DROP", exclusive: "yes" })).toEqual({});
    expect(restoreSearch({ target: "lsn:0/3000060", exclusive: "true" })).toEqual({
      target: "lsn:0/3000060",
      exclusive: "true",
    });
  });

  test("every path has its place", () => {
    const screens = [
      "/",
      "/c/a%20b/timeline",
      "/c/a/restore/new",
      "/restore/1",
      "/jobs",
      "/job/1",
      "/demo/1",
      "/settings",
      "/clusters/new",
      "/x",
    ];
    expect(screens.map((each) => placeOf(each).screen)).toEqual([
      "overview",
      "timeline",
      "restore",
      "run",
      "jobs",
      "job",
      "demo",
      "settings",
      "add",
      "none",
    ]);
    expect(placeOf("/c/a%20b/timeline").cluster).toBe("a b");
    expect(placeOf("/c/%E0%A4%A/timeline").cluster).toBe("%E0%A4%A");
    expect(shortId("0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1a11")).toBe("…6f0c1a11");
    expect(shortId("short")).toBe("short");
  });
});

describe("the shell", () => {
  test("names the cluster, its system identifier and DEMO where it is one", async () => {
    mount("/c/weddings/timeline");
    // The first is the window's own; the headers of sections lie inside its main part.
    const header = (await screen.findAllByRole("banner"))[0] as HTMLElement;
    await waitFor(() => expect(header.textContent).toContain("7412345678901234567"));
    expect(within(header).getByText("DEMO")).toBeTruthy();
    const crumbs = within(header).getByRole("navigation", { name: "Breadcrumb" });
    expect([...crumbs.querySelectorAll("li")].map((each) => each.textContent)).toEqual([
      "Workspace",
      "weddings",
      "Timeline",
    ]);
    await waitFor(() => expect(document.title).toBe("Timeline of weddings · Holdfast"));
  });

  test("G then O goes to the overview, and U writes every time in the other zone", async () => {
    const { user } = mount("/jobs");
    await screen.findByRole("heading", { name: "Jobs", level: 1 });
    await user.keyboard("go");
    await screen.findByRole("heading", { name: "Overview" });
    expect((await screen.findAllByText(/UTC$/, { selector: "main time" })).length).toBeGreaterThan(0);
    await user.keyboard("u");
    await waitFor(() =>
      expect(screen.getAllByText(/-02:30$/, { selector: "main time" }).length).toBeGreaterThan(0),
    );
    expect(window.localStorage.getItem("holdfast.zone")).toBe("local");
  });

  test("the other sequences lead to their screens", async () => {
    const { user, router } = mount("/overview");
    await screen.findByRole("heading", { name: "Overview" });
    await screen.findByText("5 jobs running");
    for (const [keys, path] of [
      ["gs", "/settings"],
      ["gj", "/jobs"],
      ["gr", "/c/ledger/restore/new"],
      ["gt", "/c/ledger/timeline"],
    ] as const) {
      await user.keyboard(keys);
      await waitFor(() => expect(router.state.location.pathname).toBe(path));
    }
  });

  test("the drawer lists what runs", async () => {
    const { user } = mount("/overview");
    await screen.findByText("5 jobs running");
    await user.keyboard("{Control>}j{/Control}");
    const drawer = await screen.findByRole("dialog", { name: "Running jobs" });
    expect(within(drawer).getByRole("link", { name: "Archive ledger" })).toBeTruthy();
    await user.click(within(drawer).getByRole("button", { name: "Close" }));
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("the cheat sheet prints the registry", async () => {
    const { user } = mount("/overview");
    await user.click(await screen.findByRole("button", { name: "Keyboard shortcuts" }));
    const sheet = await screen.findByRole("dialog");
    for (const shortcut of SHORTCUTS) expect(within(sheet).getByText(shortcut.label)).toBeTruthy();
  });

  test("the menu of narrow windows holds the same links", async () => {
    const { user } = mount("/overview");
    await user.click(await screen.findByRole("button", { name: "Open menu" }));
    const menu = await screen.findByRole("dialog", { name: "Menu" });
    await user.click(within(menu).getByRole("button", { name: "Close menu" }));
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("colours go from the system's to light to dark and are remembered", async () => {
    const { user } = mount("/settings");
    await user.click(await screen.findByRole("button", { name: /Change to light/ }));
    expect(document.documentElement.dataset.theme).toBe("light");
    await user.click(screen.getByRole("button", { name: /Change to dark/ }));
    expect(document.documentElement.dataset.theme).toBe("dark");
    expect(window.localStorage.getItem("holdfast.theme")).toBe("dark");
  });

  test("an engine that does not answer is said so, and can be asked again", async () => {
    fakeEngine.reset("failed");
    mount("/overview");
    await screen.findByText("Engine does not answer");
    const alerts = await screen.findAllByRole("alert");
    expect(alerts.some((each) => each.textContent?.includes("The workspace could not be read"))).toBe(true);
    expect(screen.getAllByRole("button", { name: "Try again" }).length).toBeGreaterThan(0);
  });

  test("an address that names nothing is said to", async () => {
    mount("/nowhere");
    await screen.findByRole("heading", { name: "No such screen" });
  });
});
