import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { OVERVIEW, WORKSPACE } from "../testing/world";

describe("the demo", () => {
  test("shows its phases while it runs", async () => {
    mount("/demo/job-demo-running");
    await screen.findByRole("progressbar", { name: "Loading 2,143 active weddings" });
    expect(screen.getAllByText("DEMO").length).toBeGreaterThan(0);
  });

  test("then shows the damage and the way to just before it", async () => {
    mount("/demo/job-demo-done");
    const table = await screen.findByRole("table", { name: /Rows per table/ });
    expect(table.textContent).toContain("2 143");
    expect(within(table).getAllByText("not restored yet").length).toBeGreaterThan(0);
    const link = screen.getByRole("link", { name: "Restore to just before the DELETE…" });
    expect(decodeURIComponent(link.getAttribute("href") ?? "")).toMatch(
      /^\/c\/weddings\/restore\/new\?target=xid:\d+&exclusive=true$/,
    );
  });

  test("rows that did not come back are not passed over", async () => {
    fakeEngine.answerWith("workspace_status", () => ({
      ...WORKSPACE,
      demo: {
        cluster: "weddings",
        disaster: {
          lsn: "0/1",
          end_lsn: "0/2",
          xid: "900",
          time: "2026-05-04T14:00:00Z",
          kind: "commit",
          name: null,
          timeline: 1,
        },
        tables: [
          { table: "guests", at_target: 10, after_disaster: 0, restored: 10 },
          { table: "vendors", at_target: 10, after_disaster: 10, restored: 9 },
        ],
        suggested_target: "xid:899",
      },
    }));
    mount("/demo/job-demo-done");
    await waitFor(() => expect(screen.getByText("not as before")).toBeTruthy());
    expect(screen.getByText("as before")).toBeTruthy();
    const link = screen.getByRole("link", { name: "Restore to just before the DELETE…" });
    expect(link.getAttribute("href")).not.toContain("exclusive");
  });

  test("is discarded only after a question", async () => {
    const { user, router } = mount("/demo/job-demo-done");
    await user.click(await screen.findByRole("button", { name: "Discard demo workspace…" }));
    const dialog = await screen.findByRole("dialog");
    expect(dialog.textContent).toContain("Your own clusters and repositories are not touched");
    await user.click(within(dialog).getByRole("button", { name: "Discard demo workspace" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/overview"));
    expect(requestsOf("demo_discard")).toEqual([{}]);
  });

  test("one that is not known is said to be", async () => {
    mount("/demo/none");
    await screen.findByText('there is no job "none"');
  });
});

describe("the settings", () => {
  test("show the secret store, the repositories and the servers", async () => {
    mount("/settings");
    const main = await screen.findByRole("main");
    await waitFor(() => expect(main.textContent).toContain("s3://acme-backups/postgres"));
    expect(main.textContent).toContain("/usr/lib/postgresql/17/bin");
    expect(main.textContent).toContain("unlocked by its passphrase");
  });

  test("say what is missing without a keychain, a repository or a server", async () => {
    fakeEngine.reset("no-keychain");
    fakeEngine.answerWith("workspace_status", () => ({
      ...WORKSPACE,
      clusters: [],
      repositories: [],
      server_binaries: [],
      running_jobs: [],
      secret_store: { kind: "unavailable", message: "no Secret Service answers" },
    }));
    fakeEngine.answerWith("overview", () => OVERVIEW.slice(0, 0));
    const { user, router } = mount("/settings");
    const main = await screen.findByRole("main");
    await waitFor(() => expect(main.textContent).toContain("does not fall back silently"));
    expect(main.textContent).toContain("None was found");
    await user.click(screen.getByRole("button", { name: "Open the demo workspace" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/demo/job-demo-running"));
  });

  test("change colours and zone", async () => {
    const { user } = mount("/settings");
    await user.click(await screen.findByRole("radio", { name: "Dark" }));
    expect(document.documentElement.dataset.theme).toBe("dark");
    await user.click(screen.getByRole("radio", { name: /^This machine's zone/ }));
    expect(window.localStorage.getItem("holdfast.zone")).toBe("local");
  });
});
