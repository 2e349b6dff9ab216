import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { launch, openWindow, settle } from "./browser";
import { type FakeHost, startHost } from "./host";

let browser: Browser;
let host: FakeHost;

beforeAll(async () => {
  host = await startHost();
  browser = await launch();
});

afterAll(async () => {
  await browser?.close();
  await host?.close();
});

beforeEach(() => host.engine.reset("busy"));

async function open(path: string): Promise<Page> {
  const { page } = await openWindow(browser, { width: 1024 });
  await page.goto(host.url + path);
  await settle(page);
  return page;
}

/** What has the focus, by role or element and by name. */
function focused(page: Page): Promise<string> {
  return page.evaluate(() => {
    const element = document.activeElement as HTMLElement | null;
    if (!element) return "";
    const labelled = element.getAttribute("aria-labelledby");
    const label = element instanceof HTMLInputElement ? element.labels?.[0]?.textContent : undefined;
    const name =
      element.getAttribute("aria-label") ??
      (labelled ? document.getElementById(labelled)?.textContent : undefined) ??
      label ??
      element.textContent;
    return `${element.getAttribute("role") ?? element.tagName.toLowerCase()} ${name?.trim() ?? ""}`;
  });
}

async function tabTo(page: Page, wanted: RegExp): Promise<void> {
  for (let presses = 0; presses < 60; presses += 1) {
    if (wanted.test(await focused(page))) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`no way by Tab to ${wanted}; the focus is on "${await focused(page)}"`);
}

test("the restore wizard can be walked by keyboard alone", async () => {
  const page = await open("/c/orders-eu/restore/new");
  await tabTo(page, /^input Latest/);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  expect(await focused(page)).toMatch(/^input Transaction/);
  await tabTo(page, /^input Transaction id/);
  await page.keyboard.type("81244");
  await tabTo(page, /^switch Stop before it/);
  await page.keyboard.press("Space");
  await tabTo(page, /^button Plan this restore/);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "3. The plan" }).waitFor();
  expect(await focused(page)).toBe("h2 3. The plan");
  await tabTo(page, /^button Restore orders-eu…/);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  expect(await focused(page)).toBe("button Cancel");
  // A stray Enter leaves everything as it was and gives the focus back.
  await page.keyboard.press("Enter");
  expect(await page.getByRole("dialog").count()).toBe(0);
  expect(await focused(page)).toMatch(/^button Restore orders-eu…/);
  await page.keyboard.press("Enter");
  await tabTo(page, /^button Restore orders-eu$/);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/restore/job-restore-running");
  await settle(page);
  expect(await focused(page)).toMatch(/^h1 Restore orders-eu/);
  const ran = host.engine.seen.filter((each) => each.command === "restore_run");
  expect(ran).toHaveLength(1);
  expect(ran[0]?.request).toMatchObject({
    target: "xid:81244",
    exclusive: true,
    at_target: "pause",
    start: true,
    plan_hash: expect.stringMatching(/^b3:/),
  });
});

test("a link fills the wizard and starts nothing", async () => {
  const page = await open("/c/orders-eu/restore/new?target=xid:81244&exclusive=true");
  expect(await page.getByLabel("Transaction id").inputValue()).toBe("81244");
  expect(await page.getByRole("switch").getAttribute("aria-checked")).toBe("true");
  const started = host.engine.seen.filter((each) => /_(plan|run|start)$/.test(each.command));
  expect(started).toEqual([]);
});

test("keys go to screens, toggle the zone and open what lies over them", async () => {
  const page = await open("/overview");
  await page.keyboard.press("g");
  await page.keyboard.press("t");
  await page.waitForURL("**/c/ledger/timeline**");
  await settle(page);
  expect(await page.title()).toBe("Timeline of ledger · Holdfast");
  expect(await focused(page)).toMatch(/^h1 Timeline of ledger/);
  await page.keyboard.press("u");
  expect(await page.getByRole("button", { name: "Local", exact: true }).getAttribute("aria-pressed")).toBe(
    "true",
  );
  expect(await page.locator("main time").first().textContent()).toMatch(/\+02:00/);
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+j");
  await page.getByRole("dialog", { name: "Running jobs" }).waitFor();
  await page.keyboard.press("Escape");
  expect(await page.getByRole("dialog").count()).toBe(0);
});

test("the skip link leads to the content", async () => {
  const page = await open("/overview");
  await page.keyboard.press("Tab");
  expect(await focused(page)).toBe("a Skip to content");
  await page.keyboard.press("Enter");
  expect(await page.evaluate(() => document.activeElement?.tagName)).toBe("MAIN");
});

test("arrow keys move the timeline from commit to commit", async () => {
  const page = await open("/c/orders-eu/timeline");
  const slider = page.getByRole("slider", { name: "Recovery point" });
  await page.waitForFunction(() =>
    document.querySelector("[role=slider]")?.getAttribute("aria-valuetext")?.startsWith("transaction"),
  );
  const before = Number(/transaction (\d+)/.exec((await slider.getAttribute("aria-valuetext")) ?? "")?.[1]);
  await slider.focus();
  await page.keyboard.press("ArrowLeft");
  await page.waitForFunction(
    (xid) => !document.querySelector("[role=slider]")?.getAttribute("aria-valuetext")?.includes(`${xid} `),
    before,
  );
  const after = Number(/transaction (\d+)/.exec((await slider.getAttribute("aria-valuetext")) ?? "")?.[1]);
  expect(after).toBeLessThan(before);
  await page.keyboard.press("Home");
  await page.waitForURL(/at=2026-05-01/);
  // The address follows, and leads back to the same commit.
  const again = await open(new URL(page.url()).pathname + new URL(page.url()).search);
  await again.waitForFunction(() =>
    document.querySelector("[role=slider]")?.getAttribute("aria-valuetext")?.includes("2026-05-01"),
  );
});

test("opening a run again replays its journal to the same numbers", async () => {
  const page = await open("/restore/job-restore-running");
  await page.getByText("131 of 224 segments").waitFor();
  await page.reload();
  await page.getByText("131 of 224 segments").waitFor();
  await page.getByText("Last activity 4 s ago").waitFor();
});

test("on a narrow window the menu opens and closes again", async () => {
  const { page } = await openWindow(browser, { width: 375 });
  await page.goto(`${host.url}/overview`);
  await settle(page);
  await page.getByRole("button", { name: "Open menu" }).click();
  await page.getByRole("dialog", { name: "Menu" }).getByRole("link", { name: "Jobs" }).click();
  await page.waitForURL("**/jobs");
  expect(await page.getByRole("dialog").count()).toBe(0);
});
