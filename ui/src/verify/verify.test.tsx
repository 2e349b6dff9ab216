import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test, vi } from "vitest";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { followDrops } from "./drops";
import { partProblem } from "./levels";

const listening = vi.hoisted(() => ({ heard: [] as ((event: { payload: unknown }) => void)[], stopped: 0 }));

vi.mock("@tauri-apps/api/event", () => ({
  listen: async (_: string, handler: (event: { payload: unknown }) => void) => {
    listening.heard.push(handler);
    return () => {
      listening.stopped += 1;
    };
  },
}));

test("a part is which of how many", () => {
  for (const good of ["", " ", "1/1", "7/7", "10000/10000"]) expect(partProblem(good)).toBeNull();
  for (const bad of ["1", "0/7", "8/7", "a/b", "1/7/2", "-1/7", "1/10001"])
    expect(partProblem(bad)).not.toBeNull();
});

describe("the verify screen", () => {
  test("verifies a cluster's repository as deep as was chosen", async () => {
    const { user, router } = mount("/verify");
    const form = within(await screen.findByRole("form", { name: "Verify a cluster's repository" }));
    await user.selectOptions(form.getByLabelText("Cluster"), "orders-eu");
    await user.click(form.getByRole("radio", { name: /Pages and WAL/ }));
    await user.type(form.getByLabelText("Only a part (optional)"), "8/7");
    await user.click(form.getByRole("button", { name: "Verify orders-eu" }));
    expect(requestsOf("verify_start")).toEqual([]);
    await user.clear(form.getByLabelText("Only a part (optional)"));
    await user.type(form.getByLabelText("Only a part (optional)"), "2/7");
    await user.click(form.getByRole("button", { name: "Verify orders-eu" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/job/job-verify-done"));
    expect(requestsOf("verify_start")).toEqual([{ cluster: "orders-eu", level: "pages", sample: "2/7" }]);
  });

  test("verifies what was brought here, and keeps no secret", async () => {
    const { user, router } = mount("/verify");
    const form = within(await screen.findByRole("form", { name: "Verify a bundle" }));
    await user.click(form.getByRole("button", { name: "Verify offline" }));
    expect(form.getAllByRole("alert").map((alert) => alert.textContent)).toEqual([
      "Name a folder or a file.",
      "Enter the passphrase.",
    ]);
    await user.type(form.getByLabelText("Folder or file"), "/media/disk/orders.tar");
    await user.click(form.getByRole("radio", { name: "Its recovery key" }));
    await user.type(form.getByLabelText("Recovery key"), "canary-secret");
    await user.click(form.getByRole("button", { name: "Verify offline" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/job/job-verify-done"));
    expect(requestsOf("verify_offline_start")).toEqual([
      {
        path: "/media/disk/orders.tar",
        passphrase: null,
        recovery_key: "canary-secret",
        level: "pages",
      },
    ]);
    expect(document.documentElement.outerHTML).not.toContain("canary-secret");
  });

  test("offers to add a cluster where there is none", async () => {
    fakeEngine.reset("first-run");
    mount("/verify");
    await screen.findByText("This machine knows no cluster yet.");
    expect(screen.getByRole("form", { name: "Verify a bundle" })).toBeTruthy();
  });

  test("takes what is dropped on the window", async () => {
    expect(followDrops(() => undefined)).toBeTypeOf("function");
    expect(listening.heard).toEqual([]);
    vi.stubGlobal("__TAURI_INTERNALS__", {});
    const dropped: string[] = [];
    const stop = followDrops((path) => dropped.push(path));
    await waitFor(() => expect(listening.heard).toHaveLength(1));
    listening.heard[0]?.({ payload: { paths: ["/media/disk/orders.tar", "/other"] } });
    listening.heard[0]?.({ payload: {} });
    expect(dropped).toEqual(["/media/disk/orders.tar"]);
    await waitFor(() => {
      stop();
      expect(listening.stopped).toBeGreaterThan(0);
    });
    vi.unstubAllGlobals();
  });
});
