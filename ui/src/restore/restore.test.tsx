import { act, screen, waitFor, within } from "@testing-library/react";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { formatCount } from "../elements/Bytes";
import { fakeEngine, followers, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { LOSS_CHANGES, makePlan } from "../testing/plan";
import { job, jobDetail, jobEvent, NOW } from "../testing/world";

beforeEach(() => vi.spyOn(Date, "now").mockReturnValue(Date.parse(NOW)));

type User = ReturnType<typeof mount>["user"];

const NEW = "/c/orders-eu/restore/new";
const BEFORE_81244 = `${NEW}?target=xid:81244&exclusive=true`;

function press(user: User, name: string): Promise<void> {
  return user.click(screen.getByRole("button", { name }));
}

/** Asks for the plan, whatever comes of it. */
function plan(user: User): Promise<void> {
  return press(user, "Plan this restore");
}

/** The wizard, once the engine has suggested where the copy could go. */
async function wizard(path: string) {
  const view = mount(path);
  await screen.findByDisplayValue(/restored\/orders-eu/);
  return view;
}

async function planned(path: string) {
  const view = await wizard(path);
  await plan(view.user);
  await screen.findByRole("heading", { name: "3. The plan" });
  return view;
}

/** Presses a button that asks first, and gives the question. */
async function ask(user: User, name: string) {
  await user.click(await screen.findByRole("button", { name }));
  const dialog = await screen.findByRole("dialog");
  return {
    text: dialog.textContent,
    action: (title: string) => within(dialog).getByRole("button", { name: title }),
    field: (label: string) => within(dialog).getByLabelText(label),
  };
}

function lossTable(): HTMLElement {
  return screen.getByRole("table", { name: "Rows per table that the copy leaves out" });
}

describe("the wizard", () => {
  test("shows the boundary, the loss, the space and the command before anything is written", async () => {
    await planned(BEFORE_81244);
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
    const lost = lossTable();
    expect(within(lost).getByRole("row", { name: /orders\.public\.timeline_items/ }).textContent).toContain(
      formatCount(4200),
    );
    expect(within(lost).getByRole("row", { name: /name is not known \(orders, file 16977\)/ })).toBeTruthy();
    for (const text of [
      "This is the WAL up to",
      "They may have done more",
      "2 transactions changed the schema",
    ])
      expect(main.toLowerCase()).toContain(text.toLowerCase());
    expect(requestsOf("restore_run")).toEqual([]);
  });

  test("the rest of the loss is counted on request, for the very plan that is shown", async () => {
    fakeEngine.refuse("restore_loss", { code: "unreachable", message: "the store is away" });
    const { user } = await planned(BEFORE_81244);
    expect(requestsOf("restore_loss")).toEqual([]);
    await press(user, "Count the rest");
    await screen.findByText("the store is away");
    fakeEngine.answerWith("restore_loss", () => ({
      ...LOSS_CHANGES,
      complete: true,
      wal_bytes_left: 0,
      total: { inserted: 61, updated: 9, deleted: 9999 },
      relations: LOSS_CHANGES.relations.map((each) => ({ ...each, rows: { ...each.rows, deleted: 9999 } })),
    }));
    await press(user, "Count the rest");
    await waitFor(() => expect(lossTable().textContent).toContain(formatCount(9999)));
    expect(screen.queryByRole("button", { name: "Count the rest" })).toBeNull();
    expect(requestsOf("restore_loss").at(-1)).toEqual(requestsOf("restore_plan")[0]);
  });

  test("runs exactly the plan that was shown, once it was confirmed", async () => {
    const { user, router } = await planned(BEFORE_81244);
    const question = await ask(user, "Restore orders-eu…");
    expect(question.text).toContain("7412345678901234567");
    expect(question.text).toContain("stopping before it");
    await user.click(question.action("Restore orders-eu"));
    await waitFor(() => expect(router.state.location.pathname).toBe("/restore/job-restore-running"));
    expect(requestsOf("restore_run")[0]).toMatchObject({
      plan_hash: makePlan("", true, "").hash,
      start: true,
    });
  });

  test("a changed request makes the plan stale", async () => {
    const { user } = await planned(`${NEW}?target=xid:81244`);
    await user.click(screen.getByRole("switch", { name: "Stop before it" }));
    await screen.findByText(/changed since it was planned/);
    expect(screen.queryByRole("button", { name: "Restore orders-eu…" })).toBeNull();
  });

  test("a time without an offset is refused with a question instead of a guess", async () => {
    const { user } = mount(NEW);
    await user.click(await screen.findByRole("radio", { name: /^Time/ }));
    await user.type(screen.getByLabelText("Recover to this time"), "2026-05-04 14:31:58.412");
    expect(screen.getByRole("alert").textContent).toContain("does not guess");
    await plan(user);
    expect(requestsOf("restore_plan")).toEqual([]);
    await user.click(screen.getByRole("button", { name: "This machine's time, -02:30" }));
    expect(screen.getByLabelText<HTMLInputElement>("Recover to this time").value).toBe(
      "2026-05-04 17:01:58.412000 UTC",
    );
    expect(screen.queryByRole("alert")).toBeNull();
  });

  test("an hour that occurred twice is asked about twice", async () => {
    const { user } = mount(NEW);
    await user.click(await screen.findByRole("radio", { name: /^Time/ }));
    await user.type(screen.getByLabelText("Recover to this time"), "2025-11-02 01:30:00");
    expect(screen.getAllByRole("button", { name: /This machine's time/ })).toHaveLength(2);
    expect(screen.getByText(/occurred twice/)).toBeTruthy();
  });

  test("a refused plan offers the nearest targets, and choosing one only fills the form", async () => {
    const { user } = await wizard(`${NEW}?target=xid:99999999`);
    await plan(user);
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain("Nothing was written");
    const before = requestsOf("restore_plan").length;
    const [use] = within(alert).getAllByRole("button", { name: /^Use xid:/ });
    await user.click(use as HTMLElement);
    expect(screen.getByLabelText<HTMLInputElement>("Transaction id").value).toMatch(/^81\d+$/);
    expect(requestsOf("restore_plan")).toHaveLength(before);
  });

  test("a refusal because of the host lists what differs", async () => {
    fakeEngine.refuse("restore_plan", {
      code: "host_differs",
      message: "this machine differs from the source",
      details: {
        findings: [{ severity: "error", code: "major", message: "No PostgreSQL 17 here", repair: null }],
      },
    });
    const { user } = await wizard(NEW);
    await plan(user);
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
    await planned(NEW);
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
    const { user } = mount(NEW);
    await user.click(await screen.findByRole("radio", { name: /^Restore point/ }));
    await user.selectOptions(
      await screen.findByLabelText("Restore point", { selector: "select" }),
      "before-deploy-418",
    );
    expect(screen.getByRole("switch").hasAttribute("disabled")).toBe(true);
    await screen.findByDisplayValue(/restored\/orders-eu/);
    await plan(user);
    await waitFor(() => expect(requestsOf("restore_plan")[0]?.target).toBe("name:before-deploy-418"));
  });

  test("the choices under the fold reach the engine", async () => {
    const { user } = mount(NEW);
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
    await plan(user);
    expect(screen.getByText("Say where the copy shall go.")).toBeTruthy();
    await user.type(path, "/restore/here");
    await plan(user);
    await screen.findByRole("heading", { name: "3. The plan" });
    expect(requestsOf("restore_plan")[0]).toMatchObject({
      target: "lsn:0/7000000",
      timeline: "1",
      snapshot: "snap-3",
      to: "/restore/here",
      accept_host_differences: true,
    });
    await user.click((await ask(user, "Restore orders-eu…")).action("Restore orders-eu"));
    await waitFor(() =>
      expect(requestsOf("restore_run")[0]).toMatchObject({ at_target: "shutdown", start: false }),
    );
  });

  test("over an existing directory it asks for the cluster's name and never suggests a path", async () => {
    const { user } = await wizard(`${NEW}?target=xid:81244`);
    await user.click(screen.getByRole("radio", { name: /^In place of/ }));
    const path = screen.getByLabelText<HTMLInputElement>("Data directory");
    expect(path.value).toBe("");
    await user.type(path, "/srv/orders");
    await plan(user);
    await screen.findByRole("heading", { name: "3. The plan" });
    expect(requestsOf("restore_plan")[0]).toMatchObject({ placement: "in_place", to: "/srv/orders" });
    const question = await ask(user, "Restore orders-eu…");
    const run = question.action("Restore orders-eu");
    expect(run.hasAttribute("disabled")).toBe(true);
    await user.type(question.field("Type orders-eu to restore there"), "orders-eu");
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
    expect(clock.textContent).toContain("105 MiB of WAL and 3 h 10 min of the source's time left to replay");
    expect(clock.textContent).toContain("0/5F3A1C40");
    expect(screen.getByRole("main").textContent).toContain("131 of 224 segments · 1.2 segments/s");
  });

  test("without a time for a target the clock counts in WAL, and says when it cannot", async () => {
    mount("/restore/job-restore-paused");
    const clock = await screen.findByRole("region", { name: "Replay clock" });
    expect(clock.textContent).toContain("how much is left is not known");
    const seen = { job: "job-restore-paused", phase: "replaying", target: "xid:742", target_lsn: "1/0" };
    act(() => followers.get("job-restore-paused")?.(jobEvent(90, { ...seen, replayed_lsn: "0/FFF00000" })));
    await waitFor(() => expect(clock.textContent).toContain("1.00 MiB of WAL left to replay"));
    expect(clock.textContent).not.toContain("source's time");
  });

  test("that was interrupted is resumed by a button", async () => {
    const { user } = mount("/restore/job-restore-interrupted");
    await screen.findByText(/What it has written is kept/);
    await user.click(screen.getByRole("button", { name: "Resume this restore" }));
    await waitFor(() => expect(requestsOf("restore_resume")).toEqual([{ job: "job-restore-interrupted" }]));
  });

  test("that was swapped back keeps the copy until it is purged", async () => {
    mount("/restore/job-restore-swapped-back");
    await screen.findByRole("button", { name: "Purge the restored copy…" });
    expect(screen.queryByRole("button", { name: "Swap back…" })).toBeNull();
    // What stands in its place now is the old data: nothing may be done with that from here.
    expect(screen.getByRole("region", { name: "Verdict" }).textContent).toContain("Verified");
    expect(screen.queryByRole("button", { name: /^(Promote|Discard) copy…$/ })).toBeNull();
    expect(screen.queryByText("/srv/postgres/orders-eu")).toBeNull();
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
    await user.click((await ask(user, "Promote copy…")).action("Promote copy"));
    await waitFor(() => expect(screen.queryByRole("button", { name: "Promote copy…" })).toBeNull());
    await user.click((await ask(user, "Discard copy…")).action("Discard copy"));
    await screen.findByText(/The copy was discarded/);
    expect(requestsOf("restore_promote")).toEqual([{ job: "job-restore-done" }]);
    expect(requestsOf("restore_discard")).toEqual([{ job: "job-restore-done" }]);
  });

  test("in place: the way back is shown, swapped after a question and purged only by name", async () => {
    const { user } = mount("/restore/job-restore-in-place");
    await screen.findByRole("button", { name: "Promote copy…" });
    expect(screen.queryByRole("button", { name: "Discard copy…" })).toBeNull();
    await user.click((await ask(user, "Swap back…")).action("Swap back"));
    await waitFor(() => expect(requestsOf("restore_swap_back")).toEqual([{ job: "job-restore-in-place" }]));
    const question = await ask(user, "Purge what was there before…");
    const purge = question.action("Purge what was there before");
    expect(purge.hasAttribute("disabled")).toBe(true);
    await user.type(question.field("Type orders-eu to purge it"), "orders-eu");
    await user.click(purge);
    await waitFor(() => expect(requestsOf("restore_purge")).toEqual([{ job: "job-restore-in-place" }]));
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
    await press(user, "Run the query");
    const rows = await screen.findByRole("region", { name: "Rows" });
    expect(rows.textContent).toContain("Ada & Grace");
    expect(rows.textContent).toContain("NULL");
    expect(requestsOf("restore_inspect")).toEqual([
      { job: "job-restore-done", database: "weddings", sql: "SELECT id, couple FROM weddings", rows: 200 },
    ]);
    fakeEngine.refuse("restore_inspect", {
      code: "query_refused",
      message: "cannot execute DELETE in a read-only transaction",
    });
    await press(user, "Run the query");
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
    const question = await ask(user, "Step forward…");
    expect(question.text).toContain("cannot be taken back");
    await user.click(question.action("Step forward 3 commits"));
    await waitFor(() =>
      expect(requestsOf("restore_step")).toEqual([{ job: "job-restore-done", commits: 3 }]),
    );
    await waitFor(() => expect(screen.queryByRole("dialog")).toBeNull());
  });

  test("that failed a check says NOT VERIFIED although it has no result", async () => {
    const error = {
      code: "restore_not_verified",
      message: "the copy is not what was asked for",
      hint: null,
      retryable: false,
      details: {
        checks: [{ severity: "error", code: "reached", message: "It went past the target", repair: null }],
      },
    };
    fakeEngine.answerWith("job_show", ({ job: id }) =>
      jobDetail(job(id, { kind: "restore", state: "failed", error })),
    );
    mount("/restore/job-restore-failed");
    const verdict = await screen.findByRole("region", { name: "Verdict" });
    expect(verdict.textContent).toContain("NOT VERIFIED");
    expect(verdict.textContent).toContain("It went past the target");
  });

  test("that ended well without a result does not count as verified", async () => {
    fakeEngine.answerWith("job_show", ({ job: id }) => jobDetail(job(id, { kind: "restore" })));
    mount("/restore/job-restore-done");
    await screen.findByText(/does not count as verified/);
  });

  test("that is not known is said to", async () => {
    mount("/restore/none");
    await screen.findByText('there is no job "none"');
  });
});
