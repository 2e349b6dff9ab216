import { asking, lookAt } from "./look";

lookAt([
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
]);
