import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { rateOf } from "./AddReplica";

const PATH = "/c/orders-eu/policies";

describe("replicas", () => {
  test("say how far each is behind, and what would have to be lost", async () => {
    mount(PATH);
    const list = await screen.findByRole("list", { name: "Replicas" });
    expect(list.textContent).toContain("up to date");
    expect(list.textContent).toContain("214");
    expect(list.textContent).toContain("nothing is at /media/disk/postgres");
    expect(screen.getByText("2 of 3")).toBeTruthy();
    expect(screen.getByText(/the stores do not say/)).toBeTruthy();
  });

  test("are brought up to date by a job", async () => {
    const { user, router } = mount(PATH);
    const button = await screen.findByRole("button", { name: "Bring up to date" });
    await waitFor(() => expect(button).toHaveProperty("disabled", false));
    await user.click(button);
    await waitFor(() => expect(router.state.location.pathname).toBe("/job/job-replication-done"));
    expect(requestsOf("replicate_start")[0]).toEqual({
      ...{ cluster: "orders-eu", to: null, bytes_per_second: null },
    });
  });

  test("one more is made where somebody says", async () => {
    const { user } = mount(PATH);
    await user.click(await screen.findByRole("button", { name: "Add a replica…" }));
    const dialog = screen.getByRole("dialog");
    const make = within(dialog).getByRole("button", { name: "Make this replica" });
    await user.click(make);
    expect(within(dialog).getByText("Enter a folder or a URL.")).toBeTruthy();
    await user.type(within(dialog).getByLabelText("Folder or URL"), "s3://backups-us/orders");
    await user.type(within(dialog).getByLabelText(/Send at most/), "20");
    await user.click(make);
    await waitFor(() => expect(requestsOf("replicate_start")).toHaveLength(1));
    expect(requestsOf("replicate_start")[0]).toEqual({
      cluster: "orders-eu",
      to: "s3://backups-us/orders",
      bytes_per_second: 20 * 1024 * 1024,
    });
  });

  test("a limit is a number above nought, or none", () => {
    expect(rateOf(" ")).toBeNull();
    expect(rateOf("0,5")).toBe(512 * 1024);
    for (const wrong of ["0", "-1", "fast", "1e99"]) expect(rateOf(wrong), wrong).toBeUndefined();
  });

  test("one is forgotten after a question", async () => {
    const { user } = mount(PATH);
    await user.click(await screen.findByRole("button", { name: "Forget /media/disk/postgres…" }));
    const dialog = screen.getByRole("dialog");
    await user.click(within(dialog).getByRole("button", { name: "Forget the replica" }));
    await waitFor(() => expect(requestsOf("replicas_forget")).toHaveLength(1));
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("none is said, and a failure leaves the rest of the screen", async () => {
    fakeEngine.reset("empty");
    const { unmount } = mount(PATH);
    expect(await screen.findByText(/loss of the repository is the loss of every backup/)).toBeTruthy();
    unmount();
    fakeEngine.refuse("replicas_list", { code: "store_unreachable", message: "no answer" });
    mount(PATH);
    expect(await screen.findByText("The replicas could not be asked")).toBeTruthy();
    expect(await screen.findByRole("button", { name: "Place a hold…" })).toBeTruthy();
  });
});

describe("a bundle", () => {
  test("is made up to a time, at a path", async () => {
    const { user, router } = mount(PATH);
    const make = await screen.findByRole("button", { name: "Make a bundle" });
    await user.click(make);
    expect(screen.getByText("Say where it shall be written.")).toBeTruthy();
    await user.type(screen.getByLabelText("Write it to"), "/media/disk/orders.tar");
    const time = screen.getByLabelText(/Up to this time/);
    await user.type(time, "2026-05-04 14:31");
    expect(screen.getByText(/Write the offset too/)).toBeTruthy();
    await user.click(make);
    expect(requestsOf("bundle_start")).toHaveLength(0);
    await user.type(time, "Z");
    await user.click(make);
    await waitFor(() => expect(router.state.location.pathname).toMatch(/^\/job\//));
    expect(requestsOf("bundle_start")[0]).toEqual({
      ...{ cluster: "orders-eu", snapshot: null, to: "/media/disk/orders.tar" },
      through: "2026-05-04T14:31:00.000Z",
    });
  });
});
