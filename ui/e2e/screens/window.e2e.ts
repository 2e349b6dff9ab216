import { lookAt } from "./look";

lookAt([
  { name: "overview", path: "/overview" },
  { name: "overview-first-run", path: "/overview", scene: "first-run" },
  { name: "overview-empty", path: "/overview", scene: "empty" },
  { name: "overview-failed", path: "/overview", scene: "failed" },
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
  { name: "verify", path: "/verify" },
  { name: "verify-first-run", path: "/verify", scene: "first-run" },
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
]);
