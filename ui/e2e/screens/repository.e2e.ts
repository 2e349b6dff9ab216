import { asking, lookAt } from "./look";

const path = "/repository/0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1a12";

lookAt([
  { name: "repository", path },
  {
    name: "repository-unreachable",
    path,
    engine: (engine) =>
      engine.refuse("repository_status", {
        code: "store_unreachable",
        message: "s3://acme-backups/postgres did not answer within 20 s",
        hint: "Is the network there? Nothing was changed.",
        retryable: true,
      }),
  },
  { name: "repository-unknown", path: "/repository/0196a0b0-0000-7d31-9a0e-2f1b6f0c1a12" },
  { name: "repository-failed", path, scene: "failed" },
  { name: "repository-add-key", path, prepare: asking("Add a key…") },
  { name: "repository-remove-key", path, prepare: asking("Remove Passphrase…") },
  {
    name: "repository-kit",
    path,
    prepare: async (page) => {
      await page.getByLabel("Write the page to this new file").fill("/media/usb/recovery-kit.html");
      await page.getByRole("button", { name: "Write the kit" }).click();
      await page.getByText("remove the key").waitFor();
    },
  },
]);
