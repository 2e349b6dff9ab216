import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { draftOf, keepOf, spanProblem } from "./spans";

describe("lengths of time", () => {
  test("are a number and a unit, or nothing", () => {
    for (const good of ["", " 30d ", "48h", "12mo", "5y", "8w"]) expect(spanProblem(good), good).toBeNull();
    for (const bad of ["30", "d", "0d", "-1d", "1.5d", "30 d", "1m"])
      expect(spanProblem(bad), bad).not.toBeNull();
  });

  test("make a policy, but none that keeps nothing", () => {
    const keep = { hourly: "48h", daily: null, weekly: null, monthly: null, yearly: null, any_point: "30d" };
    expect(keepOf(draftOf(keep))).toEqual(keep);
    expect(keepOf({ ...draftOf(keep), daily: "x" })).toBeNull();
    expect(keepOf({ ...draftOf(keep), hourly: "", any_point: " " })).toBeNull();
  });
});

describe("policies", () => {
  test("say what is kept, what is not, and why", async () => {
    mount("/c/orders-eu/policies");
    const snapshots = await screen.findByRole("table", { name: "Snapshots" });
    expect(snapshots.textContent).toContain("no rule, window or hold covers it any more");
    expect(screen.getByText(/^These are/).textContent).toContain("4 of 132");
    expect(screen.getByText(/June/)).toBeTruthy();
    expect(screen.getByRole("textbox", { name: /each day/ })).toHaveProperty("value", "30d");
  });

  test("another policy is compared with now before it is set", async () => {
    const { user } = mount("/c/orders-eu/policies");
    const weekly = await screen.findByRole("textbox", { name: /each week/ });
    const set = screen.getByRole("button", { name: "Set this policy…" });
    expect(set).toHaveProperty("disabled", true);
    await user.clear(weekly);
    await user.type(weekly, "3mon");
    expect(screen.getByRole("alert").textContent).toContain("whole number");
    await user.clear(weekly);
    await user.type(weekly, "3mo");
    expect(set).toHaveProperty("disabled", true);
    await user.click(screen.getByRole("button", { name: "Compare with now" }));
    expect(await screen.findByText(/69/)).toBeTruthy();
    await user.click(set);
    const dialog = screen.getByRole("dialog");
    await user.click(within(dialog).getByRole("button", { name: "Set this policy" }));
    await waitFor(() => expect(requestsOf("policy_set")).toHaveLength(1));
    expect(requestsOf("policy_set")[0]?.policy).toMatchObject({
      keep: { weekly: "3mo", daily: "30d" },
      overrides: [{ name: "June" }],
    });
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("a day to come is planned, one that has begun is not", async () => {
    const { user } = mount("/c/orders-eu/policies");
    const day = await screen.findByRole("textbox", { name: /which day/ });
    await user.type(day, "2020-06-14");
    expect(screen.getByRole("alert").textContent).toContain("has begun");
    await user.clear(day);
    await user.type(day, "2099-06-14");
    await user.click(screen.getByRole("button", { name: "Compare with now" }));
    expect(await screen.findByText("Left then of what is stored now")).toBeTruthy();
    expect(requestsOf("retention_plan").at(-1)).toMatchObject({ at: "2099-06-14T00:00:00Z" });
  });

  test("a mark is taken back after a question, one that is being removed is not", async () => {
    const { user } = mount("/c/orders-eu/policies");
    const table = await screen.findByRole("table", { name: "Marked for removal" });
    expect(table.textContent).toContain("its removal has begun");
    const buttons = within(table).getAllByRole("button", { name: "Take back…" });
    expect(buttons).toHaveLength(1);
    await user.click(buttons[0] as HTMLElement);
    await user.click(within(screen.getByRole("dialog")).getByRole("button", { name: "Take the mark back" }));
    await waitFor(() => expect(requestsOf("retention_undelete")).toHaveLength(1));
    expect(requestsOf("retention_undelete")[0]?.mark).toBe("0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1c01");
  });

  test("retention is applied after a question, and its job shows what came of it", async () => {
    const { user } = mount("/c/orders-eu/policies");
    await user.click(await screen.findByRole("button", { name: "Apply retention…" }));
    await user.click(within(screen.getByRole("dialog")).getByRole("button", { name: "Apply retention" }));
    expect(await screen.findByRole("table", { name: "Marked for removal" })).toBeTruthy();
    expect(await screen.findByText(/Its lease ends at/)).toBeTruthy();
  });

  test("a plan that cannot be made says so", async () => {
    fakeEngine.refuse("retention_plan", {
      code: "snapshot_missing",
      message: "snapshots/a/b was in the repository and is not listed now",
      hint: "Verify the repository.",
      retryable: false,
      details: null,
    });
    mount("/c/orders-eu/policies");
    expect(await screen.findByText("What is kept could not be read")).toBeTruthy();
  });
});
