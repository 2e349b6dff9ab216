import type { Page } from "playwright-core";
import type { Scene } from "../src/testing/fake-engine";

export interface Screen {
  name: string;
  path: string;
  scene?: Scene;
  /** Brings the screen into the state that is to be looked at. */
  prepare?: (page: Page) => Promise<void>;
}

async function plan(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Plan this restore" }).click();
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
      await page.getByRole("button", { name: "Search", exact: true }).click();
      await page.getByText("DELETE from").first().waitFor();
      await page
        .getByRole("button", { name: /^Go to just before transaction/ })
        .first()
        .click();
      await page.getByRole("button", { name: "Preview what would be lost" }).click();
      await page.getByText("Committed transactions").waitFor();
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
