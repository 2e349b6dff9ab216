import axe from "axe-core";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { NOW } from "../src/testing/world";

export const WIDTHS = [375, 768, 1024, 1920] as const;
export const SCHEMES = ["light", "dark"] as const;
export type Scheme = (typeof SCHEMES)[number];

export async function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--force-color-profile=srgb"],
  });
}

export interface Window {
  page: Page;
  context: BrowserContext;
  /** What the page complained of: console errors, violations of the policy, uncaught errors. */
  complaints: string[];
}

interface WindowOptions {
  width: number;
  scheme?: Scheme;
  height?: number;
  /** Leaves the clock alone, for a real host. */
  realTime?: boolean;
  scale?: number;
}

export async function openWindow(browser: Browser, options: WindowOptions): Promise<Window> {
  const { width, scheme = "light", height = width < 500 ? 812 : 900, realTime = false, scale = 1 } = options;
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    reducedMotion: "reduce",
    timezoneId: "Europe/Berlin",
    deviceScaleFactor: scale,
  });
  const page = await context.newPage();
  if (!realTime) await page.clock.setFixedTime(new Date(NOW));
  const complaints: string[] = [];
  page.on("console", (message) => {
    // A refused command is an answer with an error status; the browser reports every one of them.
    const refused = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !refused) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { page, context, complaints };
}

/** Waits until the screen has what it shows and the fonts are there; a search of the WAL may go on. */
export async function settle(page: Page): Promise<void> {
  await page.waitForSelector("main h1");
  await page.waitForFunction(
    () =>
      ![...document.querySelectorAll("[role=status]")].some((each) =>
        /^Reading (?!the WAL)/.test(each.textContent ?? ""),
      ),
  );
  await page.evaluate(async () => {
    await document.fonts.ready;
  });
  await page.waitForTimeout(150);
}

/** Sets the width and makes the window as high as its content, so that no bar covers anything. */
export async function resize(page: Page, width: number): Promise<void> {
  await page.setViewportSize({ width, height: 800 });
  await page.waitForTimeout(60);
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  if (height > 800) await page.setViewportSize({ width, height });
}

const RULES: Record<"everything" | "colours", axe.RunOnly> = {
  everything: {
    type: "tag",
    values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  },
  colours: { type: "rule", values: ["color-contrast"] },
};

/** What axe finds. Colours are all that a scheme changes, so `colours` alone can be asked for. */
export async function violations(page: Page, what: keyof typeof RULES = "everything"): Promise<string[]> {
  // Once a page: reading its half megabyte takes as long as a run does.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe.source);
  const options: axe.RunOptions = { runOnly: RULES[what], resultTypes: ["violations"] };
  const found = await page.evaluate(async (asked) => {
    const { axe: injected } = window as unknown as { axe: typeof axe };
    return (await injected.run(document, asked)).violations;
  }, options);
  return found.map(
    (each) =>
      `${each.id} (${each.impact}): ${each.nodes
        .map((node) => node.html.slice(0, 160))
        .slice(0, 4)
        .join(" | ")}`,
  );
}

/** What is wider than its place: the page than the window, or something than the card it stands in. */
export async function overflow(page: Page): Promise<string | null> {
  return page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth > width)
      return `${document.documentElement.scrollWidth} > ${width}`;
    /** Where an element must end; null where a box around it scrolls or clips by itself. */
    const edgeOf = (element: Element): number | null => {
      // It lies above everything, whatever it was made in.
      if (element.matches("dialog")) return width;
      for (let box = element.parentElement; box && box !== document.body; box = box.parentElement) {
        if (getComputedStyle(box).overflowX !== "visible") return null;
        if (box.matches(".card")) return box.getBoundingClientRect().right;
      }
      return width;
    };
    const wide = [...document.querySelectorAll("main *, header *, footer *")].find((element) => {
      const box = element.getBoundingClientRect();
      const edge = box.width === 0 ? null : edgeOf(element);
      return edge !== null && box.right > edge + 1;
    });
    return wide ? `sticks out: ${wide.outerHTML.slice(0, 160)}` : null;
  });
}
