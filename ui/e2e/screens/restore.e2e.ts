import type { Page } from "playwright-core";
import { asking, hold, lookAt } from "./look";

async function plan(page: Page): Promise<void> {
  await page.getByRole("button", { name: "Plan this restore" }).click();
}

async function planInPlace(page: Page): Promise<void> {
  await page.getByRole("radio", { name: /^In place of/ }).check();
  await page.getByRole("textbox", { name: "Data directory" }).fill("/srv/postgres/orders-eu");
  await plan(page);
  await page.getByRole("heading", { name: "3. The plan" }).waitFor();
}

lookAt([
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
]);
