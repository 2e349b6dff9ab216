import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";

const PATH = "/c/orders-eu/policies";

describe("holds", () => {
  test("say what is held and why", async () => {
    mount(PATH);
    const list = await screen.findByRole("list", { name: "Holds" });
    expect(list.textContent).toContain("Case 2026-114");
    expect(list.textContent).toContain("snapshot 0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1b03");
  });

  test("one is placed on a stretch of time", async () => {
    const { user } = mount(PATH);
    await user.click(await screen.findByRole("button", { name: "Place a hold…" }));
    const dialog = screen.getByRole("dialog");
    const place = within(dialog).getByRole("button", { name: "Place the hold" });
    await user.type(within(dialog).getByLabelText("From"), "2026-05-04 00:00");
    await user.click(place);
    expect(within(dialog).getByText(/Write the offset too/)).toBeTruthy();
    expect(within(dialog).getByText(/Say why/)).toBeTruthy();
    await user.type(within(dialog).getByLabelText("From"), "Z");
    await user.type(within(dialog).getByLabelText("To"), "2026-05-03 02:00+02:00");
    await user.click(place);
    expect(within(dialog).getByText("It ends before it begins.")).toBeTruthy();
    await user.clear(within(dialog).getByLabelText("To"));
    await user.type(within(dialog).getByLabelText("To"), "2026-05-05 02:00+02:00");
    await user.type(within(dialog).getByLabelText("Why"), "Case 7");
    await user.click(place);
    await waitFor(() => expect(requestsOf("holds_add")).toHaveLength(1));
    expect(requestsOf("holds_add")[0]).toEqual({
      cluster: "orders-eu",
      from: "2026-05-04T00:00:00.000Z",
      to: "2026-05-05T00:00:00.000Z",
      snapshot: null,
      reason: "Case 7",
    });
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("one is placed on a snapshot", async () => {
    const { user } = mount(PATH);
    await user.click(await screen.findByRole("button", { name: "Place a hold…" }));
    const dialog = screen.getByRole("dialog");
    await user.click(within(dialog).getByRole("radio", { name: /One snapshot/ }));
    await user.type(within(dialog).getByLabelText("Why"), "Audit");
    const place = within(dialog).getByRole("button", { name: "Place the hold" });
    await user.click(place);
    expect(within(dialog).getByText("Name the snapshot.")).toBeTruthy();
    await user.type(within(dialog).getByLabelText("Snapshot"), "snap-5");
    await user.click(place);
    await waitFor(() => expect(requestsOf("holds_add")).toHaveLength(1));
    expect(requestsOf("holds_add")[0]).toMatchObject({ snapshot: "snap-5", from: null, to: null });
  });

  test("one is lifted after a question that repeats why it was placed", async () => {
    const { user } = mount(PATH);
    await user.click(await screen.findByRole("button", { name: "Lift the hold: Audit of the year…" }));
    const dialog = screen.getByRole("dialog");
    expect(dialog.textContent).toContain("Audit of the year");
    await user.click(within(dialog).getByRole("button", { name: "Lift the hold" }));
    await waitFor(() => expect(requestsOf("holds_remove")).toHaveLength(1));
    expect(requestsOf("holds_remove")[0]?.hold).toBe("0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1e02");
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("a refusal is not shown for another one, and a plan that fails hides none", async () => {
    fakeEngine.refuse("retention_plan", { code: "repository_corrupt", message: "an object is damaged" });
    fakeEngine.refuse("holds_remove", { code: "not_found", message: "there is no such hold" });
    const { user } = mount(PATH);
    await user.click(await screen.findByRole("button", { name: /^Lift the hold: Case/ }));
    await user.click(screen.getByRole("button", { name: "Lift the hold" }));
    expect(await screen.findByText("there is no such hold")).toBeTruthy();
    await user.click(screen.getByRole("button", { name: "Cancel" }));
    await user.click(screen.getByRole("button", { name: "Lift the hold: Audit of the year…" }));
    expect(screen.queryByText("there is no such hold")).toBeNull();
  });
});
