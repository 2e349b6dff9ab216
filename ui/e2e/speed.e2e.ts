import type { Browser, CDPSession, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { launch, openWindow } from "./browser";
import { type FakeHost, startHost } from "./host";

/**
 * How fast the timeline is, in a browser's own trace. `HOLDFAST_SPEED_URL` is a development host with a
 * long history, and a machine that does nothing else: then the clock of the first paint counts too
 * (`cargo xtask bench --timeline`). Without it the small history of the tests is drawn beside other work.
 * What a frame takes is the time that the page's main thread was running script and layout; what the
 * clock says as well has in it that the thread waited for a core, and is told beside it.
 */
const GIVEN = process.env.HOLDFAST_SPEED_URL?.replace(/\/$/, "");
const CLUSTER = process.env.HOLDFAST_SPEED_CLUSTER ?? "orders-eu";
/** Script and layout that one frame may take, and how often a screen is drawn. */
const FRAME_MS = 8;
const SCREEN_MS = 1000 / 60;
/** When the picture must stand. */
const PICTURE_MS = 1000;
/** How long the main thread may have worked for it. */
const PICTURE_WORK_MS = 600;
/** So many of the frames must hold the budget: beside other work there are fewer, and each holds more. */
const SHARE = GIVEN ? 0.98 : 0.9;

interface TraceEvent {
  name: string;
  ph: string;
  ts: number;
  /** Microseconds on the clock, and those of them in which the thread was running. */
  dur?: number;
  tdur?: number;
  pid: number;
  tid: number;
  args?: { name?: string; data?: { type?: string } };
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

/** Milliseconds of script and layout in one frame: in which the thread was running, and by the clock. */
interface Spent {
  running: number;
  clock: number;
  /** Whether a hand held the picture as the frame began. */
  held: boolean;
}

/** When the button was pressed and let go, as the page heard of it. */
function holds(events: readonly TraceEvent[]): { from: number; to: number }[] {
  const heard = (type: string) =>
    events
      .filter((each) => each.name === "EventDispatch" && each.args?.data?.type === type)
      .map((each) => each.ts)
      .sort((a, b) => a - b);
  const released = heard("pointerup");
  return heard("pointerdown").map((from) => ({ from, to: released.find((at) => at > from) ?? from }));
}

/**
 * Where one frame ends and the next begins: what the page has drawn is handed over. While it draws
 * nothing a screen goes on showing frames, and work between them counts like any other.
 */
function borders(events: readonly TraceEvent[]): number[] {
  const handed = events
    .filter((each) => each.name === "Commit" && each.ph === "X")
    .map((each) => each.ts)
    .sort((a, b) => a - b);
  const screen = SCREEN_MS * 1000;
  return handed.flatMap((at, index) => {
    const next = handed[index + 1] ?? at;
    const shown = Math.max(1, Math.round((next - at) / screen));
    return Array.from({ length: shown }, (_, frame) => at + frame * screen);
  });
}

/** What each frame took in which there was anything to do; what lies within something else counts once. */
function frames(events: readonly TraceEvent[]): Spent[] {
  const begins = borders(events);
  const held = holds(events);
  const spent = begins.slice(1).map((_, frame) => ({
    running: 0,
    clock: 0,
    held: held.some(({ from, to }) => (begins[frame] ?? 0) >= from && (begins[frame] ?? 0) <= to),
  }));
  let covered = 0;
  const work = events.filter((each) => each.ph === "X" && SCRIPT.has(each.name)).sort((a, b) => a.ts - b.ts);
  for (const each of work) {
    // Its parts begin while it still runs.
    if (each.ts < covered) continue;
    covered = each.ts + (each.dur ?? 0);
    const frame = spent[begins.findLastIndex((begin) => begin <= each.ts)];
    if (!frame) continue;
    frame.running += (each.tdur ?? 0) / 1000;
    frame.clock += (each.dur ?? 0) / 1000;
  }
  return spent.filter((each) => each.clock > 0);
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

/** What so many frames took, in words, and the share of them that hold the budget. */
function told(spent: readonly Spent[]): { within: number; text: string } {
  const running = spent.map((each) => each.running);
  const share = (of: readonly number[]) => of.filter((each) => each <= FRAME_MS).length / of.length;
  const within = share(running);
  const clock = share(spent.map((each) => each.clock));
  const ms = (value: number) => `${value.toFixed(1)} ms`;
  const text =
    `median ${ms(quantile(running, 0.5))} of script and layout, 95 % within ${ms(quantile(running, 0.95))}, ` +
    `the longest ${ms(Math.max(...running))}; ${(within * 100).toFixed(1)} % within ${FRAME_MS} ms, ` +
    `by the clock ${(clock * 100).toFixed(1)} %`;
  return { within, text };
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
    const moved = spent.filter((each) => each.held);
    const after = spent.filter((each) => !each.held);
    for (const [when, some] of [
      ["while it is moved", moved],
      ["as what it came to is drawn", after],
    ] as const)
      process.stdout.write(`speed: ${some.length} frames ${when}: ${told(some).text}\n`);
    expect(moved.length).toBeGreaterThan(30);
    expect(told(moved).within).toBeGreaterThanOrEqual(SHARE);
    expect(told(spent).within).toBeGreaterThanOrEqual(SHARE);
    expect(complaints).toEqual([]);
    await context.close();
  });
});
