import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Command, RequestOf, ResponseOf } from "../src/api/client";
import { launch, openWindow, overflow, resize, settle, violations, WIDTHS } from "./browser";

/** A running development host that serves ui/dist and the API of a real engine. */
const HOST = process.env.HOLDFAST_DEV_URL?.replace(/\/$/, "");
const MINUTE = 60_000;
/** When a run that is opened again must show what it showed. */
const RELOAD_MS = 1000;
/** Reloads of one restore, at moments that nobody chose. */
const RELOADS = 8;

let browser: Browser;

beforeAll(async () => {
  if (HOST) browser = await launch();
});

afterAll(async () => {
  await browser?.close();
});

async function ask<C extends Command>(command: C, request: RequestOf<C>): Promise<ResponseOf<C>> {
  const response = await fetch(`${HOST}/api/call/${command}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request),
  });
  if (!response.ok) throw new Error(`${command}: ${await response.text()}`);
  return (await response.json()) as ResponseOf<C>;
}

/** Restores everything that a cluster has into a directory of its own, without a server afterwards. */
async function restoreAll(cluster: string): Promise<string> {
  const { path } = await ask("restore_destination", { cluster });
  const request = {
    ...{ cluster, target: "latest", exclusive: false, timeline: "latest", to: path, snapshot: null },
    accept_host_differences: true,
  };
  const { hash } = await ask("restore_plan", request);
  const run = { ...request, plan_hash: hash, at_target: "shutdown" as const, start: false };
  return (await ask("restore_run", run)).job;
}

declare global {
  interface Window {
    /** What a run shows of itself, and since how many milliseconds after the page was opened. */
    progress: { now: string; since: Map<string, number> };
  }
}

/**
 * Has the page note what it shows of a run: its phases with their numbers and its clock, in the end its
 * verdict. Rates are of the moment.
 */
async function watchProgress(page: Page): Promise<void> {
  await page.addInitScript(() => {
    window.progress = { now: "", since: new Map() };
    const look = () => {
      const phases = [...document.querySelectorAll("ol[aria-label=Phases] > li > :nth-child(2)")];
      const others = document.querySelectorAll("[aria-label='Replay clock'], [aria-label=Verdict]");
      const texts = [...phases, ...others].map((each) => each.textContent ?? "");
      const shown = texts.map((text) => text.replace(/ · [^·]+\/s$/, "")).join("\n");
      if (shown === window.progress.now) return;
      window.progress.now = shown;
      if (!window.progress.since.has(shown)) window.progress.since.set(shown, performance.now());
    };
    new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true });
  });
}

/** Waits until two windows show the same of a run, and says since when the first one has shown it. */
async function sameProgress(page: Page, other: Page): Promise<number> {
  const look = (of: Page) =>
    of.evaluate(() => ({ now: window.progress.now, at: window.progress.since.get(window.progress.now) }));
  const end = Date.now() + MINUTE / 2;
  for (;;) {
    const [here, there] = await Promise.all([look(page), look(other)]);
    if (here.at !== undefined && here.now === there.now) return here.at;
    if (Date.now() > end) expect(here.now).toBe(there.now);
    await page.waitForTimeout(20);
  }
}

describe.skipIf(!HOST)("with a real engine", () => {
  test("the demo runs, and its damage is undone by a restore to just before it", {
    timeout: 12 * MINUTE,
  }, async () => {
    const { page, context, complaints } = await openWindow(browser, { width: 1280, realTime: true });
    const status = await ask("workspace_status", {});
    if (status.demo === null) {
      await page.goto(`${HOST}/${status.clusters.length === 0 ? "overview" : "settings"}`);
      await page.getByRole("button", { name: "Open the demo workspace" }).click();
      await page.waitForURL(/\/demo\/[0-9a-f-]{36}$/);
    } else {
      await page.goto(`${HOST}/jobs`);
      await page.getByRole("link", { name: /demo/i }).last().click();
    }
    const restore = page.getByRole("link", { name: "Restore to just before the DELETE…" });
    await restore.waitFor({ timeout: 5 * MINUTE });
    await restore.click();
    await page.getByRole("button", { name: "Plan this restore" }).click();
    await page.getByRole("heading", { name: "3. The plan" }).waitFor({ timeout: MINUTE });
    expect(await violations(page)).toEqual([]);
    await page.getByRole("button", { name: /^Restore .*…$/ }).click();
    await page
      .getByRole("dialog")
      .getByRole("button", { name: /^Restore / })
      .click();
    await page.waitForURL(/\/restore\/[0-9a-f-]{36}$/);
    await page.reload();
    await page.getByText("Verified", { exact: true }).waitFor({ timeout: 5 * MINUTE });
    await settle(page);
    expect(await violations(page)).toEqual([]);
    expect(complaints).toEqual([]);
    await context.close();
  });

  test("a reload in the middle of a restore shows the same phase and numbers within a second", {
    timeout: 5 * MINUTE,
  }, async () => {
    const { demo } = await ask("workspace_status", {});
    const job = await restoreAll(demo?.cluster ?? "");
    const running = async () => (await ask("job_show", { job })).job.state === "running";
    // Refused only because it has ended meanwhile.
    const unlessEnded = (command: "restore_pause" | "restore_resume") =>
      ask(command, { job }).catch(async (refusal) => {
        if (await running()) throw refusal;
      });
    // Held from the beginning: it does not end while the windows are being opened.
    await unlessEnded("restore_pause");
    const { page, context, complaints } = await openWindow(browser, { width: 1280, realTime: true });
    // A window that stays open shows what the other one must show again.
    const open = await context.newPage();
    for (const each of [open, page]) {
      await watchProgress(each);
      await each.goto(`${HOST}/restore/${job}`);
    }
    const measured: number[] = [];
    while (measured.length < RELOADS && (await running())) {
      // Held where it can be held, so that there are moments enough in a small cluster's restore.
      await unlessEnded("restore_pause");
      await page.reload({ waitUntil: "commit" });
      measured.push(await sameProgress(page, open));
      await unlessEnded("restore_resume");
      await page.waitForTimeout(Math.random() * 300);
    }
    process.stdout.write(
      `reload: the same phase and numbers after ${measured.map((ms) => ms.toFixed(0)).join(", ")} ms\n`,
    );
    expect(measured.length).toBeGreaterThan(0);
    // Other work on the machine may hold up single ones.
    expect(Math.min(...measured)).toBeLessThan(RELOAD_MS);
    await page.getByText("Verified", { exact: true }).waitFor({ timeout: 2 * MINUTE });
    expect(complaints).toEqual([]);
    await ask("restore_discard", { job });
    await context.close();
  });

  test("keys, a kit, a hold, a replica and a bundle are made from the window", {
    timeout: 5 * MINUTE,
  }, async () => {
    const { demo, repositories } = await ask("workspace_status", {});
    const cluster = demo?.cluster ?? "";
    const folder = mkdtempSync(join(tmpdir(), "holdfast-journey-"));
    const { page, context, complaints } = await openWindow(browser, { width: 1280, realTime: true });
    const press = (name: string | RegExp) => page.getByRole("button", { name }).click();

    await page.goto(`${HOST}/repository/${repositories[0]?.id}`);
    await page.getByText("yes", { exact: true }).nth(2).waitFor();
    await press("Add a key…");
    await page.getByLabel("New passphrase", { exact: true }).fill("correct horse");
    await page.getByLabel("New passphrase again").fill("correct horse");
    await page.getByLabel("Call it (optional)").fill("The team's");
    await press("Add this key");
    await page.getByText("“The team's” was added").waitFor();
    await page.getByLabel("Write the page to this new file").fill(join(folder, "kit.html"));
    await press("Write the kit");
    await page.getByText("Written, and its key").waitFor();
    await press(/^Remove Recovery kit of/);
    await press("Remove this key");
    await page.getByText(/was removed/).waitFor();

    const policies = `${HOST}/c/${encodeURIComponent(cluster)}/policies`;
    await page.goto(policies);
    await press("Place a hold…");
    await page.getByLabel("From").fill("2020-01-01 00:00Z");
    await page.getByLabel("To", { exact: true }).fill("2099-01-01 00:00Z");
    await page.getByLabel("Why").fill("Case 2026-114");
    await press("Place the hold");
    await page.getByRole("list", { name: "Holds" }).getByText("Case 2026-114").waitFor();
    // What is kept says so too.
    await page
      .getByRole("cell", { name: /held: Case 2026-114/ })
      .first()
      .waitFor();
    await press("Add a replica…");
    await page.getByLabel("Folder or URL").fill(join(folder, "replica"));
    await press("Make this replica");
    await page.waitForURL(/\/job\//);
    await page.getByText(/^Up to date/).waitFor({ timeout: MINUTE });
    await page.goto(policies);
    await page.getByText("2 of 3").waitFor();
    await press("Lift the hold: Case 2026-114…");
    await press(/^Lift the hold$/);
    await page.getByText("None is placed.").waitFor();
    await page.getByLabel("Write it to").fill(join(folder, "demo.tar"));
    await press("Make a bundle");
    await page.getByText("Bundle, read back").waitFor({ timeout: MINUTE });

    expect(complaints).toEqual([]);
    await ask("replicas_forget", { cluster, url: join(folder, "replica") });
    rmSync(folder, { recursive: true });
    await context.close();
  });

  test("every screen is accessible, quiet and fits", { timeout: 10 * MINUTE }, async () => {
    const status = await ask("workspace_status", {});
    const clusters = status.clusters.map((each) => encodeURIComponent(each.name));
    const paths = [
      "/overview",
      "/jobs",
      "/settings",
      "/clusters/new",
      ...status.repositories.map(({ id }) => `/repository/${id}`),
      ...clusters.flatMap((each) => [`/c/${each}/timeline`, `/c/${each}/restore/new`, `/c/${each}/policies`]),
    ];
    for (const scheme of ["light", "dark"] as const) {
      const { page, context, complaints } = await openWindow(browser, {
        width: 1024,
        scheme,
        realTime: true,
      });
      for (const path of paths) {
        await page.goto(HOST + path);
        await settle(page);
        for (const width of WIDTHS) {
          await resize(page, width);
          expect(await overflow(page), `${path} at ${width} px`).toBeNull();
          const what = scheme === "light" ? "everything" : "colours";
          expect(await violations(page, what), `${path} at ${width} px`).toEqual([]);
        }
      }
      expect(complaints).toEqual([]);
      await context.close();
    }
  });
});
