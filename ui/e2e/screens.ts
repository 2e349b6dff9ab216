import type { Page } from "playwright-core";
import { makePoints, makeTimeline } from "../src/testing/archive";
import type { FakeEngine, Scene } from "../src/testing/fake-engine";

export interface Screen {
  name: string;
  path: string;
  scene?: Scene;
  /** Has the engine answer otherwise. */
  engine?: (engine: FakeEngine) => void;
  /** Brings the screen into the state that is to be looked at. */
  prepare?: (page: Page) => Promise<void>;
}

const AWAY = {
  code: "unreachable",
  message: "the repository could not be used: s3://acme-backups did not answer within 30 s",
  hint: "Check the network and the endpoint. What is stored there is not affected.",
};

async function plan(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Plan this restore" }).click();
}

async function planInPlace(page: Page): Promise<void> {
  await page.getByRole("radio", { name: /^In place of/ }).check();
  await page.getByRole("textbox", { name: "Data directory" }).fill("/srv/postgres/orders-eu");
  await plan(page);
  await page.getByRole("heading", { name: "3. The plan" }).waitFor();
}

/** A command that is never answered, so that what waits for it can be seen. */
async function hold(page: Page, command: string): Promise<void> {
  await page.route(`**/api/call/${command}`, () => {});
}

async function search(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Search", exact: true }).click();
}

/** Presses a button that asks first. */
function asking(name: string): (page: Page) => Promise<void> {
  return async (page) => {
    await page.getByRole("button", { name }).click();
    await page.getByRole("dialog").waitFor();
  };
}

/** Every screen and the states in which it can be. */
export const SCREENS: readonly Screen[] = [
  { name: "overview", path: "/overview" },
  { name: "overview-first-run", path: "/overview", scene: "first-run" },
  { name: "overview-empty", path: "/overview", scene: "empty" },
  { name: "overview-failed", path: "/overview", scene: "failed" },
  { name: "timeline", path: "/c/orders-eu/timeline" },
  {
    name: "timeline-zoomed",
    path: "/c/orders-eu/timeline?at=2026-05-03T10:00:00Z",
    prepare: async (page) => {
      for (let i = 0; i < 5; i += 1) await page.getByRole("button", { name: "Zoom in" }).click();
    },
  },
  {
    name: "timeline-tables",
    path: "/c/orders-eu/timeline",
    prepare: async (page) => {
      await page.getByRole("button", { name: "Show as tables" }).click();
    },
  },
  {
    name: "timeline-found",
    path: "/c/orders-eu/timeline",
    prepare: async (page) => {
      await search(page);
      await page.getByText("DELETE from").first().waitFor();
      await page
        .getByRole("button", { name: /^Go to just before transaction/ })
        .first()
        .click();
      await page.getByRole("button", { name: "Preview what would be lost" }).click();
      await page.getByText("Committed transactions").waitFor();
    },
  },
  {
    name: "timeline-finding",
    path: "/c/orders-eu/timeline",
    prepare: async (page) => {
      await hold(page, "find");
      await search(page);
      await page.getByText("Reading the WAL…").waitFor();
    },
  },
  {
    name: "timeline-find-failed",
    path: "/c/orders-eu/timeline",
    engine: (engine) => engine.refuse("find", AWAY),
    prepare: async (page) => {
      await search(page);
      await page.getByText("The search ended early").waitFor();
    },
  },
  {
    name: "timeline-found-nothing",
    path: "/c/orders-eu/timeline",
    prepare: async (page) => {
      await page.getByLabel("Table").fill("nothing_of_the_kind");
      await search(page);
      await page.getByText("Nothing of the kind was found").waitFor();
    },
  },
  {
    name: "timeline-markers-failed",
    path: "/c/orders-eu/timeline",
    engine: (engine) => engine.refuse("markers", AWAY),
    prepare: (page) => page.getByText("What happened to tables could not be read").waitFor(),
  },
  {
    name: "timeline-remembered",
    path: "/c/orders-eu/timeline",
    engine: (engine) =>
      engine.answerWith("timeline", (request) => ({
        ...makeTimeline(makePoints("orders-eu"), request),
        problem: { ...AWAY, retryable: true, details: null },
      })),
  },
  {
    name: "timeline-preview-refused",
    path: "/c/orders-eu/timeline",
    engine: (engine) => engine.refuse("restore_plan", AWAY),
    prepare: async (page) => {
      await page.getByRole("button", { name: "Preview what would be lost" }).click();
      await page.getByText("This restore cannot be planned").waitFor();
    },
  },
  { name: "timeline-forks", path: "/c/forked/timeline" },
  { name: "timeline-failed", path: "/c/orders-eu/timeline", scene: "failed" },
  { name: "timeline-empty", path: "/c/orders-eu/timeline", scene: "empty" },
  { name: "restore", path: "/c/orders-eu/restore/new" },
  {
    name: "restore-zoneless",
    path: "/c/orders-eu/restore/new",
    prepare: async (page) => {
      await page.getByRole("radio", { name: /^Time/ }).check();
      await page.getByLabel("Recover to this time").fill("2026-05-04 14:31:58.412");
    },
  },
  {
    name: "restore-plan",
    path: "/c/orders-eu/restore/new?target=xid:81244&exclusive=true",
    prepare: async (page) => {
      await plan(page);
      await page.getByRole("heading", { name: "3. The plan" }).waitFor();
    },
  },
  {
    name: "restore-confirm",
    path: "/c/orders-eu/restore/new?target=xid:81244&exclusive=true",
    prepare: async (page) => {
      await plan(page);
      await page.getByRole("button", { name: "Restore orders-eu…" }).click();
    },
  },
  {
    name: "restore-planning",
    path: "/c/orders-eu/restore/new?target=xid:81244&exclusive=true",
    prepare: async (page) => {
      await hold(page, "restore_plan");
      await plan(page);
    },
  },
  {
    name: "restore-counting",
    path: "/c/orders-eu/restore/new?target=xid:81244&exclusive=true",
    prepare: async (page) => {
      await hold(page, "restore_loss");
      await plan(page);
      await page.getByRole("button", { name: "Count the rest" }).click();
      await page.getByText("ten minutes at most").waitFor();
    },
  },
  {
    name: "restore-in-place-confirm",
    path: "/c/orders-eu/restore/new?target=xid:81244&exclusive=true",
    prepare: async (page) => {
      await planInPlace(page);
      await asking("Restore orders-eu…")(page);
    },
  },
  {
    name: "restore-refused",
    path: "/c/orders-eu/restore/new?target=xid:99999999",
    prepare: async (page) => {
      await plan(page);
      await page.getByRole("alert").waitFor();
    },
  },
  { name: "run-running", path: "/restore/job-restore-running" },
  {
    name: "run-cancel",
    path: "/restore/job-restore-running",
    prepare: async (page) => {
      await page.getByRole("button", { name: "Cancel this restore…" }).click();
    },
  },
  { name: "run-verified", path: "/restore/job-restore-done" },
  {
    name: "run-look",
    path: "/restore/job-restore-done",
    prepare: async (page) => {
      await page.getByLabel("Query").fill("SELECT id, couple FROM weddings");
      await page.getByRole("button", { name: "Run the query" }).click();
      await page.getByText("Ada & Grace").waitFor();
    },
  },
  {
    name: "run-step",
    path: "/restore/job-restore-done",
    prepare: async (page) => {
      await page.getByLabel("Commits forward").fill("3");
      await page.getByRole("button", { name: "Step forward…" }).click();
      await page.getByRole("dialog").waitFor();
    },
  },
  {
    name: "run-look-refused",
    path: "/restore/job-restore-done",
    engine: (engine) =>
      engine.refuse("restore_inspect", {
        code: "query_refused",
        message: "cannot execute DELETE in a read-only transaction",
        hint: "Only look here: one SELECT, VALUES, TABLE or WITH.",
      }),
    prepare: async (page) => {
      await page.getByLabel("Query").fill("WITH gone AS (DELETE FROM weddings RETURNING 1) SELECT 1");
      await page.getByRole("button", { name: "Run the query" }).click();
      await page.getByText("The query was not answered").waitFor();
    },
  },
  { name: "run-promote", path: "/restore/job-restore-done", prepare: asking("Promote copy…") },
  { name: "run-discard", path: "/restore/job-restore-done", prepare: asking("Discard copy…") },
  { name: "run-paused", path: "/restore/job-restore-paused" },
  { name: "run-interrupted", path: "/restore/job-restore-interrupted" },
  { name: "run-in-place", path: "/restore/job-restore-in-place" },
  { name: "run-swap-back", path: "/restore/job-restore-in-place", prepare: asking("Swap back…") },
  {
    name: "run-purge",
    path: "/restore/job-restore-in-place",
    prepare: asking("Purge what was there before…"),
  },
  { name: "run-swapped-back", path: "/restore/job-restore-swapped-back" },
  { name: "run-not-verified", path: "/restore/job-restore-unverified" },
  { name: "run-failed", path: "/restore/job-restore-failed" },
  { name: "jobs", path: "/jobs" },
  { name: "jobs-empty", path: "/jobs", scene: "first-run" },
  { name: "job-backup", path: "/job/job-backup-done" },
  { name: "job-backup-running", path: "/job/job-backup-running" },
  { name: "job-archive", path: "/job/job-archive" },
  { name: "job-verify", path: "/job/job-verify-done" },
  { name: "job-interrupted", path: "/job/job-interrupted" },
  { name: "job-missing", path: "/job/nothing" },
  { name: "demo-running", path: "/demo/job-demo-running" },
  { name: "demo-done", path: "/demo/job-demo-done" },
  { name: "add-cluster", path: "/clusters/new" },
  {
    name: "add-cluster-new-repository",
    path: "/clusters/new",
    scene: "no-keychain",
  },
  {
    name: "add-cluster-findings",
    path: "/clusters/new",
    prepare: async (page) => {
      await page.getByRole("button", { name: "Use this repository" }).click();
      await page.getByLabel("Connection string").fill("host=broken.internal user=holdfast");
      await page.getByRole("button", { name: "Check this server" }).click();
      await page.getByText("may not replicate").waitFor();
    },
  },
  { name: "settings", path: "/settings" },
  { name: "settings-no-keychain", path: "/settings", scene: "no-keychain" },
  { name: "not-found", path: "/nowhere" },
  {
    name: "jobs-drawer",
    path: "/overview",
    prepare: async (page) => {
      await page.keyboard.press("Control+j");
      await page.getByRole("dialog").waitFor();
    },
  },
  {
    name: "cheat-sheet",
    path: "/overview",
    prepare: async (page) => {
      await page.keyboard.press("?");
      await page.getByRole("dialog").waitFor();
    },
  },
];
