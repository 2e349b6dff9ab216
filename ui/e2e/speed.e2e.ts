import type { Browser, CDPSession, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { launch, openWindow } from "./browser";
import { type FakeHost, startHost } from "./host";

/**
 * How fast the timeline is, in a browser's own trace. `HOLDFAST_SPEED_URL` is a development host with a
 * long history; without it the same is measured on the small history of the tests.
 */
const GIVEN = process.env.HOLDFAST_SPEED_URL?.replace(/\/$/, "");
const CLUSTER = process.env.HOLDFAST_SPEED_CLUSTER ?? "orders-eu";
/** Script and layout that one frame may take. */
const FRAME_MS = 8;
const FIRST_PAINT_MS = 1000;
/** On a machine that does other work at the same time, this share of the frames must hold the budget. */
const SHARE = 0.95;

interface TraceEvent {
  name: string;
  ph: string;
  ts: number;
  dur?: number;
  pid: number;
  tid: number;
  args?: { name?: string };
}

const SCRIPT: ReadonlySet<string> = new Set([
  "EventDispatch",
  "FireAnimationFrame",
  "TimerFire",
  "FunctionCall",
  "RunMicrotasks",
  "V8.GC_SCAVENGER",
  "MinorGC",
  "MajorGC",
  "UpdateLayoutTree",
  "Layout",
  "ParseHTML",
]);

let browser: Browser;
let host: FakeHost | null = null;
let url: string;

beforeAll(async () => {
  browser = await launch();
  if (!GIVEN) host = await startHost();
  url = GIVEN ?? host?.url ?? "";
});

afterAll(async () => {
  await browser?.close();
  await host?.close();
});

/** Events of the page's main thread while `work` runs. */
async function traced(session: CDPSession, work: () => Promise<void>): Promise<TraceEvent[]> {
  const events: TraceEvent[] = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...(value as unknown as TraceEvent[])));
  await session.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: { includedCategories: ["devtools.timeline", "disabled-by-default-devtools.timeline", "v8"] },
  });
  await work();
  const ended = new Promise((resolve) => session.once("Tracing.tracingComplete", resolve));
  await session.send("Tracing.end");
  await ended;
  const main = events.find((each) => each.name === "thread_name" && each.args?.name === "CrRendererMain");
  const busiest = events.filter((each) => each.name === "FireAnimationFrame");
  const thread = busiest[0] ?? main;
  return events.filter((each) => each.pid === thread?.pid && each.tid === thread?.tid);
}

/** Milliseconds of script and layout in each frame; what lies within something else counts once. */
function frames(events: readonly TraceEvent[]): number[] {
  const begins = events
    .filter((each) => each.name === "FireAnimationFrame")
    .map((each) => each.ts)
    .sort((a, b) => a - b);
  const spans = events
    .filter((each) => each.ph === "X" && SCRIPT.has(each.name))
    .map((each) => ({ from: each.ts, to: each.ts + (each.dur ?? 0) }))
    .sort((a, b) => a.from - b.from);
  const merged: { from: number; to: number }[] = [];
  for (const span of spans) {
    const last = merged.at(-1);
    if (last && span.from <= last.to) last.to = Math.max(last.to, span.to);
    else merged.push({ ...span });
  }
  return begins.slice(1).map((end, index) => {
    const begin = begins[index] ?? end;
    const spent = merged
      .filter((span) => span.to > begin && span.from < end)
      .reduce((sum, span) => sum + Math.min(span.to, end) - Math.max(span.from, begin), 0);
    return spent / 1000;
  });
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** When the picture stood on the screen, in milliseconds after the navigation began. */
async function painted(page: Page): Promise<{ first: number; picture: number }> {
  await page.waitForSelector("[data-picture] path", { timeout: 60_000, state: "attached" });
  return page.evaluate(
    () =>
      new Promise<{ first: number; picture: number }>((resolve) => {
        requestAnimationFrame(() => {
          const [first] = performance.getEntriesByName("first-contentful-paint");
          resolve({ first: first?.startTime ?? Number.NaN, picture: performance.now() });
        });
      }),
  );
}

describe("the timeline's speed", () => {
  test("the first paint comes within a second, with the whole history in it", {
    timeout: 180_000,
  }, async () => {
    const runs: { first: number; picture: number }[] = [];
    for (let run = 0; run < 4; run += 1) {
      const { page, context } = await openWindow(browser, { width: 1440, realTime: true });
      await page.goto(`${url}/c/${CLUSTER}/timeline`, { waitUntil: "commit" });
      runs.push(await painted(page));
      await context.close();
    }
    // The first run warms host and browser; the middle one of the others counts, for the machine is not
    // alone.
    const [cold, ...warm] = runs;
    const middle = quantile(
      warm.map((each) => each.picture),
      0.5,
    );
    process.stdout.write(
      `speed: first run ${cold?.first.toFixed(0)} ms to the first paint, ${cold?.picture.toFixed(0)} ms to the picture; ` +
        `then ${warm.map((each) => `${each.first.toFixed(0)} and ${each.picture.toFixed(0)} ms`).join(", ")}\n`,
    );
    // Beside every other test the machine's time is shared; the bench has it alone.
    expect(middle).toBeLessThan(GIVEN ? FIRST_PAINT_MS : 5 * FIRST_PAINT_MS);
  });

  test("moving it takes little script and layout in every frame", { timeout: 180_000 }, async () => {
    const { page, context, complaints } = await openWindow(browser, {
      width: 1440,
      realTime: true,
    });
    await page.goto(`${url}/c/${CLUSTER}/timeline`);
    await painted(page);
    for (let presses = 0; presses < 4; presses += 1)
      await page.getByRole("button", { name: "Zoom in" }).click();
    await page.waitForTimeout(1500);
    const slider = page.getByRole("slider", { name: "Recovery point" });
    const box = await slider.boundingBox();
    if (!box) throw new Error("no picture");
    const session = await context.newCDPSession(page);
    const y = box.y + box.height / 2;
    const events = await traced(session, async () => {
      // From the right to the left and back, further than is drawn beside what is shown.
      for (const [from, to] of [
        [0.1, 0.95],
        [0.1, 0.95],
        [0.95, 0.05],
      ] as const) {
        await page.mouse.move(box.x + box.width * from, y);
        await page.mouse.down();
        for (let step = 1; step <= 60; step += 1) {
          await page.mouse.move(box.x + box.width * (from + ((to - from) * step) / 60), y);
        }
        await page.mouse.up();
        await page.waitForTimeout(400);
      }
    });
    const spent = frames(events);
    const within = spent.filter((each) => each <= FRAME_MS).length / spent.length;
    process.stdout.write(
      `speed: ${spent.length} frames while it is moved: median ${quantile(spent, 0.5).toFixed(1)} ms of script and layout, ` +
        `95 % within ${quantile(spent, 0.95).toFixed(1)} ms, the longest ${Math.max(...spent).toFixed(1)} ms; ` +
        `${(within * 100).toFixed(1)} % within ${FRAME_MS} ms\n`,
    );
    expect(spent.length).toBeGreaterThan(30);
    expect(within).toBeGreaterThanOrEqual(GIVEN ? SHARE : 0.8);
    expect(complaints).toEqual([]);
    await context.close();
  });
});
