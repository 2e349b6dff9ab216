import type { JobEvent } from "./bindings";
import type { Transport } from "./client";
import { ApiError, toErrorObject } from "./error";

const ENDED: ReadonlySet<JobEvent["kind"]> = new Set(["finished", "failed", "cancelled"]);
const RECONNECT_MS = [500, 1000, 2000, 4000, 8000];
/** A stream that closes this often in a row without a word belongs to a job that will say no more. */
const SILENT_STREAMS = 3;

async function answer(response: Response): Promise<unknown> {
  const text = await response.text();
  let body: unknown = null;
  try {
    body = text === "" ? null : JSON.parse(text);
  } catch {
    body = text;
  }
  if (response.ok) return body;
  if (typeof body === "object" && body !== null) throw new ApiError(toErrorObject(body));
  throw new ApiError({
    code: "bad_answer",
    message: `The host answered ${response.status} without an error object.`,
    hint: null,
    retryable: response.status >= 500,
    details: null,
  });
}

function unreachable(cause: unknown): ApiError {
  return new ApiError({
    code: "host_unreachable",
    message: "The Holdfast engine did not answer.",
    hint: "It may have been stopped. What was running is kept in its journal; start it again and try once more.",
    retryable: true,
    details: cause instanceof Error ? { cause: cause.message } : null,
  });
}

/** Calls `onLine` for every complete line of a stream of text. */
async function readLines(body: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.trim() !== "") onLine(line);
    if (done) break;
  }
  if (rest.trim() !== "") onLine(rest);
}

function attach(job: string, fromSeq: number, onEvent: (event: JobEvent) => void): () => void {
  const abort = new AbortController();
  let next = fromSeq;
  let ended = false;

  const deliver = (line: string) => {
    if (abort.signal.aborted) return;
    const event = JSON.parse(line) as JobEvent;
    if (event.seq < next) return;
    next = event.seq + 1;
    if (ENDED.has(event.kind)) ended = true;
    onEvent(event);
  };

  const follow = async () => {
    let failures = 0;
    let silent = 0;
    while (!abort.signal.aborted && !ended && silent < SILENT_STREAMS) {
      const before = next;
      try {
        const url = `/api/jobs/${encodeURIComponent(job)}/events?from_seq=${next}`;
        const response = await fetch(url, {
          signal: abort.signal,
          headers: { accept: "application/x-ndjson" },
        });
        if (response.status === 404) return;
        if (response.ok && response.body) await readLines(response.body, deliver);
        silent = next === before ? silent + 1 : 0;
      } catch {
        // Cut in the middle: continue after the last event that arrived.
        silent = 0;
      }
      if (abort.signal.aborted || ended) return;
      failures = next === before ? failures + 1 : 0;
      const wait = RECONNECT_MS[Math.min(failures, RECONNECT_MS.length - 1)];
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  };

  void follow();
  return () => abort.abort();
}

export function httpTransport(): Transport {
  return {
    async call(command, request) {
      let response: Response;
      try {
        response = await fetch(`/api/call/${command}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(request),
        });
      } catch (cause) {
        throw unreachable(cause);
      }
      return answer(response);
    },
    attachJob: attach,
  };
}
