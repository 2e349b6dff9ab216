import type { Page } from "playwright-core";
import { makePoints, makeTimeline } from "../../src/testing/archive";
import { hold, lookAt } from "./look";

const AWAY = {
  code: "unreachable",
  message: "the repository could not be used: s3://acme-backups did not answer within 30 s",
  hint: "Check the network and the endpoint. What is stored there is not affected.",
};

/** By the keyboard, as below: what is still being read may move the button away from under the pointer. */
async function search(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Search", exact: true }).press("Enter");
}

async function previewLoss(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Preview what would be lost" }).press("Enter");
}

lookAt([
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
        .press("Enter");
      await previewLoss(page);
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
      await previewLoss(page);
      await page.getByText("This restore cannot be planned").waitFor();
    },
  },
  { name: "timeline-forks", path: "/c/forked/timeline" },
  { name: "timeline-failed", path: "/c/orders-eu/timeline", scene: "failed" },
  { name: "timeline-empty", path: "/c/orders-eu/timeline", scene: "empty" },
]);
