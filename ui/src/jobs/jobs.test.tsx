import { act, screen, waitFor, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { fakeEngine, followers, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { before, JOBS, jobEvent, NOW } from "../testing/world";

beforeEach(() => vi.spyOn(Date, "now").mockReturnValue(Date.parse(NOW)));
afterEach(() => followers.clear());

describe("the list of jobs", () => {
  test("leads each job to its own screen and repeats why one failed", async () => {
    mount("/jobs");
    const list = await screen.findByRole("list", { name: "Jobs" });
    const links = within(list).getAllByRole("link");
    const paths = links.map((link) => link.getAttribute("href"));
    expect(paths).toContain("/restore/job-restore-running");
    expect(paths).toContain("/demo/job-demo-done");
    expect(paths).toContain("/job/job-backup-done");
    expect(list.textContent).toContain("No space left on device");
    expect(list.textContent).toContain("Interrupted");
  });

  test("says when there is none", async () => {
    fakeEngine.reset("first-run");
    mount("/jobs");
    await screen.findByText("No job has run yet");
  });
});

describe("a job", () => {
  test("shows a running backup's phases, numbers and heartbeat", async () => {
    mount("/job/job-backup-running");
    const main = await screen.findByRole("main");
    await waitFor(() => expect(main.textContent).toContain("17.0 GiB of 49.0 GiB · 123 MiB/s"));
    expect(screen.getByText("Last activity 16 s ago")).toBeTruthy();
    const bar = screen.getByRole("progressbar", { name: "Copying" });
    expect(bar.getAttribute("aria-valuenow")).toBe("34");
  });

  test("follows what is still to come", async () => {
    mount("/job/job-backup-running");
    await screen.findByRole("progressbar", { name: "Copying" });
    const committing = { job: "job-backup-running", at: NOW, phase: "committing" };
    act(() => followers.get("job-backup-running")?.(jobEvent(90, { ...committing, kind: "phase_started" })));
    const bar = await screen.findByRole("progressbar", { name: "Committing" });
    expect(bar.getAttribute("aria-valuenow")).toBeNull();
    expect(screen.getByText("Last activity 0 s ago")).toBeTruthy();
  });

  test("says when it was silent for longer than usual", async () => {
    vi.spyOn(Date, "now").mockReturnValue(Date.parse(NOW) + 600_000);
    mount("/job/job-backup-running");
    await screen.findByText(/Stalled\? No activity for 10 min 16 s/);
  });

  test("asks before it is cancelled, and says what that leaves", async () => {
    const { user } = mount("/job/job-backup-running");
    await user.click(await screen.findByRole("button", { name: "Cancel this backup…" }));
    const dialog = await screen.findByRole("dialog");
    expect(dialog.textContent).toContain("No snapshot is made");
    await user.click(within(dialog).getByRole("button", { name: "Cancel this backup" }));
    await waitFor(() => expect(requestsOf("job_cancel")).toEqual([{ job: "job-backup-running" }]));
    expect((await screen.findByRole("button", { name: "Stopping…" })).hasAttribute("disabled")).toBe(true);
  });

  test("a cancellation that is refused is shown in the dialog", async () => {
    fakeEngine.answerWith("job_cancel", () => {
      throw new Error("the job is succeeded");
    });
    const { user } = mount("/job/job-archive");
    await user.click(await screen.findByRole("button", { name: "Stop archiving…" }));
    await user.click(
      within(await screen.findByRole("dialog")).getByRole("button", { name: "Stop archiving" }),
    );
    await waitFor(() => expect(screen.getByRole("dialog").textContent).toContain("the job is succeeded"));
  });

  test("shows what a backup made", async () => {
    mount("/job/job-backup-done");
    const main = await screen.findByRole("main");
    await waitFor(() => expect(main.textContent).toContain("Added to the repository"));
    expect(main.textContent).toContain("3.60 GiB");
    expect(main.textContent).toContain("logical slots are not part of a backup");
    expect(main.textContent).toContain("4 211");
  });

  test("shows what a verification found", async () => {
    mount("/job/job-verify-done");
    await screen.findByText("Something stored is not what it must be");
    expect(screen.getByRole("list", { name: "Findings" }).textContent).toContain("packs/7f/7f3a91c0");
  });

  test("shows what a re-encryption left behind and what is to be done anew", async () => {
    mount("/job/job-rekey-done");
    await screen.findByText(/frame 3 does not decrypt/);
    expect(screen.getByText("Stay in the old one")).toBeTruthy();
    expect(screen.getByText("orders-eu, billing")).toBeTruthy();
    expect(screen.getByText(/Carried snapshots count as stored/)).toBeTruthy();
  });

  test("tells of each replica whether it is up to date, and what it lacks", async () => {
    mount("/job/job-replication-done");
    await screen.findByText("Up to date, every object read back");
    expect(screen.getByText(/^packs\/7f\/7f3a91c0.* is damaged/)).toBeTruthy();
    expect(screen.getByText("snapshots/0196a0b0/1: its list of files was not copied")).toBeTruthy();
    expect(screen.getByText(/no space left while writing/)).toBeTruthy();
  });

  test("shows how far an ended archive came, and what it found lost", async () => {
    const gap = {
      from_lsn: "0/9A000000",
      to_lsn: "0/9C000000",
      timeline: 1,
      cause: "slot_dropped" as const,
      explanation: "our replication slot was dropped to spare the server's disk, and the WAL it held is gone",
      detected_at: "2026-05-04T14:30:00Z",
    };
    fakeEngine.answerWith("job_show", ({ job }) => ({
      job: { ...JOBS[2], id: job, state: "succeeded", finished_at: before(1) } as (typeof JOBS)[number],
      last_seq: 3,
      set_aside: null,
      result: {
        kind: "archive",
        job,
        durable_lsn: "0/9F3A1C40",
        stored_lsn: "0/9F000000",
        durability: "spool",
        timeline: 1,
        segments: 88,
        gaps: [gap],
        needs_snapshot: { reason: "gap", message: "nothing after it can be restored", gap },
        backup: null,
      },
    }));
    mount("/job/job-archive");
    await screen.findByText("0/9F3A1C40");
    await screen.findByText("0/9F000000");
    await screen.findByText("this machine's spool");
    await screen.findByText("nothing after it can be restored");
    expect(screen.getByText(/^Slot dropped/).textContent).toContain("to spare the server's disk");
  });

  test.each([
    ["job-interrupted", "Its process ended without a word"],
    ["job-cancelled", "It was cancelled"],
    ["job-restore-failed", "It failed while “Replaying”"],
  ])("%s says how it ended", async (id, text) => {
    mount(`/job/${id}`);
    await waitFor(() => expect(screen.getByRole("main").textContent).toContain(text));
  });

  test("one that does not exist is said to", async () => {
    mount("/job/nothing");
    await screen.findByText('there is no job "nothing"');
  });
});
