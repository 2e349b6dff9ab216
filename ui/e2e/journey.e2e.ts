import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { WorkspaceStatus } from "../src/api/bindings";
import { launch, openWindow, overflow, resize, settle, violations, WIDTHS } from "./browser";

/** A running development host that serves ui/dist and the API of a real engine. */
const HOST = process.env.HOLDFAST_DEV_URL?.replace(/\/$/, "");
const MINUTE = 60_000;

let browser: Browser;

beforeAll(async () => {
  if (HOST) browser = await launch();
});

afterAll(async () => {
  await browser?.close();
});

async function workspace(): Promise<WorkspaceStatus> {
  const response = await fetch(`${HOST}/api/call/workspace_status`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  return (await response.json()) as WorkspaceStatus;
}

describe.skipIf(!HOST)("with a real engine", () => {
  test("the demo runs, and its damage is undone by a restore to just before it", {
    timeout: 12 * MINUTE,
  }, async () => {
    const { page, context, complaints } = await openWindow(browser, { width: 1280, realTime: true });
    const status = await workspace();
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

  test("every screen is accessible, quiet and fits", { timeout: 10 * MINUTE }, async () => {
    const status = await workspace();
    const clusters = status.clusters.map((each) => encodeURIComponent(each.name));
    const paths = [
      "/overview",
      "/jobs",
      "/settings",
      "/clusters/new",
      ...clusters.flatMap((each) => [`/c/${each}/timeline`, `/c/${each}/restore/new`]),
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
