import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FakeEngine, Scene } from "../../src/testing/fake-engine";
import { launch, openWindow, overflow, resize, SCHEMES, settle, violations, WIDTHS } from "../browser";
import { type FakeHost, startHost } from "../host";

export interface Screen {
  name: string;
  path: string;
  scene?: Scene;
  /** Has the engine answer otherwise. */
  engine?: (engine: FakeEngine) => void;
  /** Brings the screen into the state that is to be looked at. */
  prepare?: (page: Page) => Promise<void>;
}

/** A command that is never answered, so that what waits for it can be seen. */
export async function hold(page: Page, command: string): Promise<void> {
  await page.route(`**/api/call/${command}`, () => {});
}

/** Presses a button that asks first. */
export function asking(name: string): (page: Page) => Promise<void> {
  return async (page) => {
    await page.getByRole("button", { name }).click();
    await page.getByRole("dialog").waitFor();
  };
}

/** Looks at each of the screens in every scheme and width. */
export function lookAt(screens: readonly Screen[]): void {
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

  describe.each(screens)("$name", (screen) => {
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
}
