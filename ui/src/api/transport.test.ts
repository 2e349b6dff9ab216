import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { journalOf } from "../testing/fake-engine";
import type { JobEvent } from "./bindings";
import { ApiError, toErrorObject } from "./error";
import { httpTransport } from "./http";
import { tauriTransport } from "./tauri";

vi.unmock("./client");

function json(status: number, body: unknown): Response {
  return new Response(JSON.stringify(body), { status, headers: { "content-type": "application/json" } });
}

/** A body that arrives in parts and ends, or breaks off, once all of them were read. */
function stream(parts: readonly string[], cut = false): Response {
  const encoder = new TextEncoder();
  const left = [...parts];
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const part = left.shift();
      if (part !== undefined) controller.enqueue(encoder.encode(part));
      else if (cut) controller.error(new TypeError("network error"));
      else controller.close();
    },
  });
  return new Response(body);
}

const REFUSAL = {
  code: "wrong_key",
  message: "wrong key",
  hint: "try another",
  retryable: false,
  details: { a: 1 },
};

describe("error objects", () => {
  test("are found wherever they stand", () => {
    expect(toErrorObject(new ApiError(REFUSAL))).toBe(REFUSAL);
    expect(toErrorObject(REFUSAL)).toEqual(REFUSAL);
    expect(toErrorObject({ error: REFUSAL })).toEqual(REFUSAL);
    expect(toErrorObject({ code: "x", message: "y" })).toEqual({
      code: "x",
      message: "y",
      hint: null,
      retryable: false,
      details: null,
    });
  });

  test("anything else keeps its text", () => {
    expect(toErrorObject("boom").message).toBe("boom");
    expect(toErrorObject(new Error("boom")).message).toBe("boom");
    expect(toErrorObject(42).message).toBe("42");
  });
});

describe("over HTTP", () => {
  const fetching = vi.fn<typeof fetch>();
  beforeEach(() => {
    fetching.mockReset();
    vi.stubGlobal("fetch", fetching);
  });
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });

  test("a command is posted as JSON and answered", async () => {
    fetching.mockResolvedValue(json(200, { path: "/x" }));
    const answer = await httpTransport().call("restore_destination", { cluster: "a" });
    expect(answer).toEqual({ path: "/x" });
    expect(fetching).toHaveBeenCalledWith(
      "/api/call/restore_destination",
      expect.objectContaining({ method: "POST", body: '{"cluster":"a"}' }),
    );
  });

  test("an empty answer is null", async () => {
    fetching.mockResolvedValue(new Response("", { status: 200 }));
    expect(await httpTransport().call("job_cancel", {})).toBeNull();
  });

  test("a refusal rejects with its error object", async () => {
    fetching.mockResolvedValue(json(409, { error: REFUSAL }));
    await expect(httpTransport().call("x", {})).rejects.toMatchObject({ object: REFUSAL });
  });

  test("an answer without an error object is said to be one", async () => {
    fetching.mockResolvedValue(new Response("Bad gateway", { status: 502 }));
    await expect(httpTransport().call("x", {})).rejects.toMatchObject({
      object: { code: "bad_answer", retryable: true },
    });
  });

  test("a host that is gone is worth a retry", async () => {
    fetching.mockRejectedValue(new TypeError("fetch failed"));
    await expect(httpTransport().call("x", {})).rejects.toMatchObject({
      object: { code: "host_unreachable", retryable: true },
    });
  });

  test("a journal arrives in order although lines are cut anywhere, and goes on after a cut connection", async () => {
    vi.useFakeTimers();
    const lines = journalOf("job-restore-done").map((event) => `${JSON.stringify(event)}\n`);
    const first = lines.slice(0, 3).join("");
    fetching.mockResolvedValueOnce(stream([first.slice(0, 40), first.slice(40)], true));
    fetching.mockResolvedValueOnce(stream([lines.slice(2).join("")]));
    const seen: JobEvent[] = [];
    const stop = httpTransport().attachJob("job-restore-done", 0, (event) => seen.push(event));
    await vi.runAllTimersAsync();
    expect(seen.map((event) => event.seq)).toEqual(lines.map((_, index) => index + 1));
    expect(seen.at(-1)?.kind).toBe("finished");
    expect(fetching.mock.calls.map(([url]) => url)).toEqual([
      "/api/jobs/job-restore-done/events?from_seq=0",
      "/api/jobs/job-restore-done/events?from_seq=4",
    ]);
    stop();
  });

  test("a journal that says nothing more is left after some tries", async () => {
    vi.useFakeTimers();
    fetching.mockImplementation(async () => stream([]));
    httpTransport().attachJob("gone", 5, () => {});
    await vi.runAllTimersAsync();
    expect(fetching).toHaveBeenCalledTimes(3);
    expect(fetching.mock.calls[0]?.[0]).toBe("/api/jobs/gone/events?from_seq=5");
  });

  test("a job that does not exist is not asked for again", async () => {
    vi.useFakeTimers();
    fetching.mockImplementation(async () => new Response("", { status: 404 }));
    httpTransport().attachJob("none", 0, () => {});
    await vi.runAllTimersAsync();
    expect(fetching).toHaveBeenCalledTimes(1);
  });

  test("nothing is delivered after it was stopped", async () => {
    vi.useFakeTimers();
    const seen: JobEvent[] = [];
    fetching.mockImplementation(async () =>
      stream(journalOf("job-backup-done").map((e) => `${JSON.stringify(e)}\n`)),
    );
    httpTransport().attachJob("job-backup-done", 0, (event) => seen.push(event))();
    await vi.runAllTimersAsync();
    expect(seen).toEqual([]);
  });
});

describe("inside the window", () => {
  const invoked: { command: string; args: Record<string, unknown> }[] = [];
  let reply: (command: string) => unknown = () => null;
  beforeEach(() => {
    invoked.length = 0;
    let id = 0;
    Object.assign(window, {
      __TAURI_INTERNALS__: {
        invoke: async (command: string, args: Record<string, unknown>) => {
          invoked.push({ command, args });
          return reply(command);
        },
        transformCallback: (callback: (message: unknown) => void) => {
          id += 1;
          Object.assign(window, { [`_${id}`]: callback });
          return id;
        },
        unregisterCallback: () => {},
      },
    });
  });
  afterEach(() => {
    Reflect.deleteProperty(window, "__TAURI_INTERNALS__");
  });

  test("a command is invoked by its name", async () => {
    reply = () => ({ path: "/x" });
    expect(await tauriTransport().call("restore_destination", { cluster: "a" })).toEqual({ path: "/x" });
    expect(invoked).toEqual([
      { command: "call", args: { command: "restore_destination", request: { cluster: "a" } } },
    ]);
  });

  test("a rejection is the error object", async () => {
    reply = () => Promise.reject(REFUSAL);
    await expect(tauriTransport().call("x", {})).rejects.toMatchObject({ object: REFUSAL });
  });

  test("events arrive once each until detached", async () => {
    reply = () => null;
    const seen: number[] = [];
    const stop = tauriTransport().attachJob("job", 2, (event) => seen.push(event.seq));
    await Promise.resolve();
    const channel = invoked[0]?.args.channel as { id: number; onmessage: (event: unknown) => void };
    for (const seq of [1, 2, 2, 3]) channel.onmessage({ seq });
    stop();
    stop();
    channel.onmessage({ seq: 4 });
    expect(seen).toEqual([2, 3]);
    expect(invoked.map((each) => each.command)).toEqual(["job_attach", "job_detach"]);
  });
});
