import type { Browser, CDPSession, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { launch, openWindow } from "./browser";
import { type FakeHost, startHost } from "./host";

/**
 * How fast the timeline is, in a browser's own trace. `HOLDFAST_SPEED_URL` is a development host with a
 * long history, and a machine that does nothing else: then the clock counts (`cargo xtask bench
 * --timeline`). Without it the small history of the tests is drawn beside other work, and what counts is
 * the time that the page's main thread was running.
 */
const GIVEN = process.env.HOLDFAST_SPEED_URL?.replace(/\/$/, "");
const CLUSTER = process.env.HOLDFAST_SPEED_CLUSTER ?? "orders-eu";
/** Script and layout that one frame may take. */
const FRAME_MS = 8;
/** When the picture must stand. */
const PICTURE_MS = 1000;
/** How long the main thread may have worked for it. */
const PICTURE_WORK_MS = 600;
/**
 * So many of the frames must hold the budget: drawing anew beside what is shown may cost one of twenty.
 * Beside other work there are fewer frames, and each of them holds more.
 */
const SHARE = GIVEN ? 0.95 : 0.9;

interface TraceEvent {
  name: string;
  ph: string;
  ts: number;
  /** Microseconds on the clock, and those of them in which the thread was running. */
  dur?: number;
  tdur?: number;
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
  const spent = new Array<number>(Math.max(0, begins.length - 1)).fill(0);
  let covered = 0;
  const work = events.filter((each) => each.ph === "X" && SCRIPT.has(each.name)).sort((a, b) => a.ts - b.ts);
  for (const each of work) {
    // Its parts begin while it still runs.
    if (each.ts < covered) continue;
    covered = each.ts + (each.dur ?? 0);
    const frame = begins.findLastIndex((begin) => begin <= each.ts);
    if (frame >= 0 && frame < spent.length)
      spent[frame] = (spent[frame] ?? 0) + ((GIVEN ? each.dur : each.tdur) ?? 0) / 1000;
  }
  return spent;
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

interface Painted {
  /** Milliseconds after the navigation began: anything at all, and the whole picture. */
  first: number;
  picture: number;
  /** Milliseconds in which the main thread was running until then. */
  work: number;
}

/** Opens the timeline and waits until its picture stands on the screen. */
async function open(page: Page): Promise<Painted> {
  // Said by the page itself: asking from outside would add the asking.
  await page.addInitScript(() => {
    const look = () => {
      if (!document.querySelector("[data-picture] path")) return;
      observer.disconnect();
      requestAnimationFrame(() => setTimeout(() => performance.mark("picture")));
    };
    const observer = new MutationObserver(look);
    observer.observe(document, { childList: true, subtree: true });
  });
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  await page.goto(`${url}/c/${CLUSTER}/timeline`, { waitUntil: "commit" });
  await page.waitForFunction(() => performance.getEntriesByName("picture").length > 0, null, {
    timeout: 60_000,
  });
  const { metrics } = await session.send("Performance.getMetrics");
  const at = await page.evaluate(() => {
    const time = (name: string) => performance.getEntriesByName(name)[0]?.startTime ?? Number.NaN;
    return { first: time("first-contentful-paint"), picture: time("picture") };
  });
  const work = metrics.find((each) => each.name === "TaskDuration")?.value ?? Number.NaN;
  return { ...at, work: work * 1000 };
}

function tell({ first, picture, work }: Painted): string {
  return `${first.toFixed(0)} ms to the first paint, ${picture.toFixed(0)} ms to the picture, ${work.toFixed(0)} ms of work`;
}

describe("the timeline's speed", () => {
  test("the first paint comes within a second, with the whole history in it", {
    timeout: 180_000,
  }, async () => {
    const runs: Painted[] = [];
    for (let run = 0; run < 4; run += 1) {
      const { page, context } = await openWindow(browser, { width: 1440, realTime: true });
      runs.push(await open(page));
      await context.close();
    }
    process.stdout.write(runs.map((each) => `speed: ${tell(each)}\n`).join(""));
    // The first run warms host and browser; the middle one of the others counts.
    const middle = (of: (run: Painted) => number) => quantile(runs.slice(1).map(of), 0.5);
    expect(middle((run) => run.work)).toBeLessThan(PICTURE_WORK_MS);
    if (GIVEN) expect(middle((run) => run.picture)).toBeLessThan(PICTURE_MS);
  });

  test("moving it takes little script and layout in every frame", { timeout: 180_000 }, async () => {
    const { page, context, complaints } = await openWindow(browser, {
      width: 1440,
      realTime: true,
    });
    await open(page);
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
    expect(within).toBeGreaterThanOrEqual(SHARE);
    expect(complaints).toEqual([]);
    await context.close();
  });
});
