import { screen, waitFor, within } from "@testing-library/react";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { formatCount } from "../elements/Bytes";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { FakeRefusal } from "../testing/fake-engine";
import { mount } from "../testing/mount";
import { makePlan } from "../testing/plan";
import { NOW } from "../testing/world";

beforeEach(() => vi.spyOn(Date, "now").mockReturnValue(Date.parse(NOW)));

const PLAN = "Plan this restore";

async function planned(path: string) {
  const view = mount(path);
  await screen.findByDisplayValue(/restored\/orders-eu/);
  await view.user.click(screen.getByRole("button", { name: PLAN }));
  await screen.findByRole("heading", { name: "3. The plan" });
  return view;
}

describe("the wizard", () => {
  test("shows the boundary, the loss, the space and the command before anything is written", async () => {
    await planned("/c/orders-eu/restore/new?target=xid:81244&exclusive=true");
    expect(requestsOf("restore_plan")).toEqual([
      {
        cluster: "orders-eu",
        target: "xid:81244",
        exclusive: true,
        timeline: "latest",
        to: "/home/operator/holdfast/restored/orders-eu-20260504T143221Z",
        snapshot: null,
        accept_host_differences: false,
      },
    ]);
    const main = screen.getByRole("main").textContent ?? "";
    for (const text of [
      "Last transaction the copy will hold",
      "38",
      "4.21 MiB",
      "52.5 GiB",
      "--plan-hash",
      "ICU 72.1",
      "9 min to 13 min 30 s",
    ])
      expect(main).toContain(text);
    const lost = screen.getByRole("table", { name: "Rows per table that the copy leaves out" });
    expect(within(lost).getByRole("row", { name: /orders\.public\.timeline_items/ }).textContent).toContain(
      formatCount(4200),
    );
    expect(within(lost).getByRole("row", { name: /orders\.file 16977/ })).toBeTruthy();
    for (const text of ["Only the WAL up to", "They may have done more", "2 transactions changed the schema"])
      expect(main.toLowerCase()).toContain(text.toLowerCase());
    expect(requestsOf("restore_run")).toEqual([]);
  });

  test("runs exactly the plan that was shown, once it was confirmed", async () => {
    const { user, router } = await planned("/c/orders-eu/restore/new?target=xid:81244&exclusive=true");
    await user.click(screen.getByRole("button", { name: "Restore orders-eu…" }));
    const dialog = await screen.findByRole("dialog");
    expect(dialog.textContent).toContain("7412345678901234567");
    expect(dialog.textContent).toContain("stopping before it");
    await user.click(within(dialog).getByRole("button", { name: "Restore orders-eu" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/restore/job-restore-running"));
    expect(requestsOf("restore_run")[0]).toMatchObject({
      plan_hash: makePlan("", true, "").hash,
      start: true,
    });
  });

  test("a changed request makes the plan stale", async () => {
    const { user } = await planned("/c/orders-eu/restore/new?target=xid:81244");
    await user.click(screen.getByRole("switch", { name: "Stop before it" }));
    await screen.findByText(/changed since it was planned/);
    expect(screen.queryByRole("button", { name: "Restore orders-eu…" })).toBeNull();
  });

  test("a time without an offset is refused with a question instead of a guess", async () => {
    const { user } = mount("/c/orders-eu/restore/new");
    await user.click(await screen.findByRole("radio", { name: /^Time/ }));
    await user.type(screen.getByLabelText("Recover to this time"), "2026-05-04 14:31:58.412");
    expect(screen.getByRole("alert").textContent).toContain("does not guess");
    await user.click(screen.getByRole("button", { name: PLAN }));
    expect(requestsOf("restore_plan")).toEqual([]);
    await user.click(screen.getByRole("button", { name: "This machine's time, -02:30" }));
    expect(screen.getByLabelText<HTMLInputElement>("Recover to this time").value).toBe(
      "2026-05-04 17:01:58.412000 UTC",
    );
    expect(screen.queryByRole("alert")).toBeNull();
  });

  test("an hour that occurred twice is asked about twice", async () => {
    const { user } = mount("/c/orders-eu/restore/new");
    await user.click(await screen.findByRole("radio", { name: /^Time/ }));
    await user.type(screen.getByLabelText("Recover to this time"), "2025-11-02 01:30:00");
    expect(screen.getAllByRole("button", { name: /This machine's time/ })).toHaveLength(2);
    expect(screen.getByText(/occurred twice/)).toBeTruthy();
  });

  test("a refused plan offers the nearest targets, and choosing one only fills the form", async () => {
    const { user } = mount("/c/orders-eu/restore/new?target=xid:99999999");
    await screen.findByDisplayValue(/restored\/orders-eu/);
    await user.click(screen.getByRole("button", { name: PLAN }));
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain("Nothing was written");
    const before = requestsOf("restore_plan").length;
    const [use] = within(alert).getAllByRole("button", { name: /^Use xid:/ });
    await user.click(use as HTMLElement);
    expect(screen.getByLabelText<HTMLInputElement>("Transaction id").value).toMatch(/^81\d+$/);
    expect(requestsOf("restore_plan")).toHaveLength(before);
  });

  test("a refusal because of the host lists what differs", async () => {
    fakeEngine.answerWith("restore_plan", () => {
      throw new FakeRefusal({
        code: "host_differs",
        message: "this machine differs from the source",
        hint: null,
        retryable: false,
        details: {
          findings: [{ severity: "error", code: "major", message: "No PostgreSQL 17 here", repair: null }],
        },
      });
    });
    const { user } = mount("/c/orders-eu/restore/new");
    await screen.findByDisplayValue(/restored\/orders-eu/);
    await user.click(screen.getByRole("button", { name: PLAN }));
    const list = await screen.findByRole("list", { name: "What stands against it" });
    expect(list.textContent).toContain("No PostgreSQL 17 here");
  });

  test("a plan with an error among its findings cannot be run", async () => {
    fakeEngine.answerWith("restore_plan", ({ target, exclusive, to }) => ({
      ...makePlan(target, exclusive, to),
      server: null,
      estimate_seconds: null,
      bytes_free: 1024,
      stops_before: null,
      loss: {
        transactions: 0,
        aborted: 0,
        wal_bytes: 0,
        from: null,
        to: null,
        first: null,
        last: null,
        earlier_but_lost: [],
      },
      host_findings: [{ severity: "error", code: "x", message: "It would not start", repair: null }],
    }));
    await planned("/c/orders-eu/restore/new");
    expect(screen.getByRole("button", { name: "Restore orders-eu…" }).hasAttribute("disabled")).toBe(true);
    const main = screen.getByRole("main").textContent ?? "";
    for (const text of [
      "too little",
      "no matching PostgreSQL",
      "unknown: this machine",
      "None: nothing that is stored",
      "No committed transaction",
    ])
      expect(main).toContain(text);
  });

  test("restore points are chosen from those that exist; a named one cannot be left out", async () => {
    const { user } = mount("/c/orders-eu/restore/new");
    await user.click(await screen.findByRole("radio", { name: /^Restore point/ }));
    await user.selectOptions(
      await screen.findByLabelText("Restore point", { selector: "select" }),
      "before-deploy-418",
    );
    expect(screen.getByRole("switch").hasAttribute("disabled")).toBe(true);
    await screen.findByDisplayValue(/restored\/orders-eu/);
    await user.click(screen.getByRole("button", { name: PLAN }));
    await waitFor(() => expect(requestsOf("restore_plan")[0]?.target).toBe("name:before-deploy-418"));
  });

  test("the choices under the fold reach the engine", async () => {
    const { user } = mount("/c/orders-eu/restore/new");
    await user.click(await screen.findByRole("radio", { name: /^LSN/ }));
    await user.type(screen.getByLabelText("LSN"), "0/7000000");
    await user.clear(screen.getByLabelText("Timeline"));
    await user.type(screen.getByLabelText("Timeline"), "1");
    await waitFor(() =>
      expect(screen.getByLabelText<HTMLSelectElement>("Start from").options.length).toBe(7),
    );
    await user.selectOptions(screen.getByLabelText("Start from"), "snap-3");
    await user.click(screen.getByRole("checkbox", { name: "Accept differences of this host" }));
    await user.click(screen.getByRole("radio", { name: /^Shut it down/ }));
    const path = await screen.findByLabelText("New directory");
    await user.clear(path);
    await user.click(screen.getByRole("button", { name: PLAN }));
    expect(screen.getByText("Say where the copy shall go.")).toBeTruthy();
    await user.type(path, "/restore/here");
    await user.click(screen.getByRole("button", { name: PLAN }));
    await screen.findByRole("heading", { name: "3. The plan" });
    expect(requestsOf("restore_plan")[0]).toMatchObject({
      target: "lsn:0/7000000",
      timeline: "1",
      snapshot: "snap-3",
      to: "/restore/here",
      accept_host_differences: true,
    });
    await user.click(screen.getByRole("button", { name: "Restore orders-eu…" }));
    await user.click(
      within(await screen.findByRole("dialog")).getByRole("button", { name: "Restore orders-eu" }),
    );
    await waitFor(() =>
      expect(requestsOf("restore_run")[0]).toMatchObject({ at_target: "shutdown", start: false }),
    );
  });

  test("over an existing directory it asks for the cluster's name and never suggests a path", async () => {
    const { user } = mount("/c/orders-eu/restore/new?target=xid:81244");
    await screen.findByDisplayValue(/restored\/orders-eu/);
    await user.click(screen.getByRole("radio", { name: /^In place of/ }));
    const path = screen.getByLabelText<HTMLInputElement>("Data directory");
    expect(path.value).toBe("");
    await user.type(path, "/srv/orders");
    await user.click(screen.getByRole("button", { name: PLAN }));
    await screen.findByRole("heading", { name: "3. The plan" });
    expect(requestsOf("restore_plan")[0]).toMatchObject({ placement: "in_place", to: "/srv/orders" });
    await user.click(screen.getByRole("button", { name: "Restore orders-eu…" }));
    const dialog = await screen.findByRole("dialog");
    const run = within(dialog).getByRole("button", { name: "Restore orders-eu" });
    expect(run.hasAttribute("disabled")).toBe(true);
    await user.type(within(dialog).getByLabelText("Type orders-eu to restore there"), "orders-eu");
    await user.click(run);
    await waitFor(() => expect(requestsOf("restore_run")[0]).toMatchObject({ placement: "in_place" }));
  });

  test("a cluster that is not known here is said to", async () => {
    mount("/c/elsewhere/restore/new?target=xid:5");
    await screen.findByText(/There is no cluster “elsewhere”/);
  });
});

describe("a run", () => {
  test("shows the replay clock against the target while it runs", async () => {
    mount("/restore/job-restore-running");
    const clock = await screen.findByRole("region", { name: "Replay clock" });
    expect(clock.textContent).toContain("2026-05-04 10:32:21.412 UTC");
    expect(clock.textContent).toContain("3 h 10 min of the source's time left");
    expect(screen.getByRole("main").textContent).toContain("131 of 224 segments · 1.2 segments/s");
  });

  test("is green only when it was verified", async () => {
    const { unmount } = mount("/restore/job-restore-done");
    const verdict = await screen.findByRole("region", { name: "Verdict" });
    expect(verdict.innerHTML).toContain("proven");
    expect(verdict.textContent).toContain("Verified");
    unmount();
    mount("/restore/job-restore-unverified");
    const other = await screen.findByRole("region", { name: "Verdict" });
    expect(other.textContent).toContain("NOT VERIFIED");
    expect(other.innerHTML).not.toContain("proven");
  });

  test("offers the connection, and asks before promoting or discarding", async () => {
    const { user } = mount("/restore/job-restore-done");
    await screen.findByRole("button", { name: "Copy connection string" });
    await user.click(screen.getByRole("button", { name: "Promote copy…" }));
    await user.click(within(await screen.findByRole("dialog")).getByRole("button", { name: "Promote copy" }));
    await waitFor(() => expect(screen.queryByRole("button", { name: "Promote copy…" })).toBeNull());
    await user.click(screen.getByRole("button", { name: "Discard copy…" }));
    await user.click(within(await screen.findByRole("dialog")).getByRole("button", { name: "Discard copy" }));
    await screen.findByText(/The copy was discarded/);
    expect(requestsOf("restore_promote")).toEqual([{ job: "job-restore-done" }]);
    expect(requestsOf("restore_discard")).toEqual([{ job: "job-restore-done" }]);
  });

  test("in place: the way back is shown, swapped after a question and purged only by name", async () => {
    fakeEngine.answerWith("job_show", ({ job }) => ({
      job: {
        id: job,
        kind: "restore",
        cluster: "orders-eu",
        title: "Restore",
        state: "succeeded",
        phase: null,
        created_at: NOW,
        finished_at: NOW,
        error: null,
        paused: false,
        resumable: false,
      },
      last_seq: 1,
      set_aside: { path: "/srv/orders.old", is_copy: false },
      result: null,
    }));
    const { user } = mount("/restore/job-restore-done");
    await user.click(await screen.findByRole("button", { name: "Swap back…" }));
    await user.click(within(await screen.findByRole("dialog")).getByRole("button", { name: "Swap back" }));
    await waitFor(() => expect(requestsOf("restore_swap_back")).toEqual([{ job: "job-restore-done" }]));
    await user.click(screen.getByRole("button", { name: "Purge what was there before…" }));
    const dialog = await screen.findByRole("dialog");
    const purge = within(dialog).getByRole("button", { name: "Purge what was there before" });
    expect(purge.hasAttribute("disabled")).toBe(true);
    await user.type(within(dialog).getByLabelText("Type orders-eu to purge it"), "orders-eu");
    await user.click(purge);
    await waitFor(() => expect(requestsOf("restore_purge")).toEqual([{ job: "job-restore-done" }]));
  });

  test("is paused and resumed without a question, since both can be taken back", async () => {
    const { user } = mount("/restore/job-restore-running");
    await user.click(await screen.findByRole("button", { name: "Pause" }));
    await waitFor(() => expect(requestsOf("restore_pause")).toEqual([{ job: "job-restore-running" }]));
  });

  test("looks into a paused copy with one query that changes nothing", async () => {
    const { user } = mount("/restore/job-restore-done");
    await user.type(await screen.findByLabelText("Query"), "SELECT id, couple FROM weddings");
    await user.type(screen.getByLabelText("Database"), "weddings");
    await user.click(screen.getByRole("button", { name: "Run the query" }));
    const rows = await screen.findByRole("region", { name: "Rows" });
    expect(rows.textContent).toContain("Ada & Grace");
    expect(rows.textContent).toContain("NULL");
    expect(requestsOf("restore_inspect")).toEqual([
      { job: "job-restore-done", database: "weddings", sql: "SELECT id, couple FROM weddings", rows: 200 },
    ]);
    fakeEngine.answerWith("restore_inspect", () => {
      throw new FakeRefusal({
        code: "query_refused",
        message: "cannot execute DELETE in a read-only transaction",
        hint: null,
        retryable: false,
        details: null,
      });
    });
    await user.click(screen.getByRole("button", { name: "Run the query" }));
    await screen.findByText("cannot execute DELETE in a read-only transaction");
  });

  test("steps forward by whole commits, after a question that says it cannot be taken back", async () => {
    const { user } = mount("/restore/job-restore-done");
    const field = await screen.findByLabelText("Commits forward");
    await user.clear(field);
    await user.type(field, "0");
    expect(screen.getByRole("button", { name: "Step forward…" }).hasAttribute("disabled")).toBe(true);
    await user.clear(field);
    await user.type(field, "3");
    await user.click(screen.getByRole("button", { name: "Step forward…" }));
    const dialog = await screen.findByRole("dialog");
    expect(dialog.textContent).toContain("cannot be taken back");
    await user.click(within(dialog).getByRole("button", { name: "Step forward 3 commits" }));
    await waitFor(() =>
      expect(requestsOf("restore_step")).toEqual([{ job: "job-restore-done", commits: 3 }]),
    );
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("that failed a check says NOT VERIFIED although it has no result", async () => {
    fakeEngine.answerWith("job_show", ({ job }) => ({
      job: {
        id: job,
        kind: "restore",
        cluster: "orders-eu",
        title: "Restore orders-eu",
        state: "failed",
        phase: null,
        created_at: NOW,
        finished_at: NOW,
        error: {
          code: "restore_not_verified",
          message: "the copy is not what was asked for",
          hint: null,
          retryable: false,
          details: {
            checks: [
              { severity: "error", code: "reached", message: "It went past the target", repair: null },
            ],
          },
        },
        paused: false,
        resumable: false,
      },
      last_seq: 9,
      set_aside: null,
      result: null,
    }));
    mount("/restore/job-restore-failed");
    const verdict = await screen.findByRole("region", { name: "Verdict" });
    expect(verdict.textContent).toContain("NOT VERIFIED");
    expect(verdict.textContent).toContain("It went past the target");
  });

  test("that ended well without a result does not count as verified", async () => {
    fakeEngine.answerWith("job_show", ({ job }) => ({
      job: {
        id: job,
        kind: "restore",
        cluster: null,
        title: "Restore",
        state: "succeeded",
        phase: null,
        created_at: NOW,
        finished_at: NOW,
        error: null,
        paused: false,
        resumable: false,
      },
      last_seq: 1,
      set_aside: null,
      result: null,
    }));
    mount("/restore/job-restore-done");
    await screen.findByText(/does not count as verified/);
  });

  test("that is not known is said to", async () => {
    mount("/restore/none");
    await screen.findByText('there is no job "none"');
  });
});
