import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { launch, openWindow, overflow, resize, SCHEMES, settle, violations, WIDTHS } from "./browser";
import { type FakeHost, startHost } from "./host";
import { SCREENS } from "./screens";

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

describe.each(SCREENS)("$name", (screen) => {
  test.each(SCHEMES)("is accessible, quiet and fits every width in %s", async (scheme) => {
    host.engine.reset(screen.scene ?? "busy");
    screen.engine?.(host.engine);
    const { page, context, complaints } = await openWindow(browser, { width: 1024, scheme });
    await page.goto(host.url + screen.path);
    await settle(page);
    await screen.prepare?.(page);
    await settle(page);
    for (const width of WIDTHS) {
      await resize(page, width);
      expect(await overflow(page), `${screen.name} at ${width} px`).toBeNull();
      expect(
        await violations(page, scheme === "light" ? "everything" : "colours"),
        `${screen.name} at ${width} px`,
      ).toEqual([]);
    }
    expect(complaints).toEqual([]);
    await context.close();
  });
});
