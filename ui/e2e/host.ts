import { readFile } from "node:fs/promises";
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { FakeEngine, FakeRefusal, journalOf } from "../src/testing/fake-engine";

const DIST = join(import.meta.dirname, "../dist");
const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
  ".woff": "font/woff",
};

/** The policy of the desktop window; a violation is an error on the console and fails the test. */
const POLICY =
  "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-src 'none'";

async function serveFile(path: string, response: ServerResponse): Promise<void> {
  const wanted = normalize(path).replace(/^(\.\.[/\\])+/, "");
  const file = extname(wanted) === "" ? "index.html" : wanted;
  try {
    const body = await readFile(join(DIST, file));
    response.writeHead(200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "content-security-policy": POLICY,
    });
    response.end(body);
  } catch {
    response.writeHead(404).end();
  }
}

function serveEvents(job: string, from: number, response: ServerResponse): void {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  const events = journalOf(job);
  for (const event of events.filter((each) => each.seq >= from)) response.write(`${JSON.stringify(event)}\n`);
  const last = events.at(-1)?.kind;
  if (last === "finished" || last === "failed" || last === "cancelled") response.end();
}

export interface FakeHost {
  url: string;
  engine: FakeEngine;
  close: () => Promise<void>;
}

/** Serves the built window and canned answers: the development host without an engine. */
export async function startHost(): Promise<FakeHost> {
  const engine = new FakeEngine();
  const server: Server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://127.0.0.1");
    const command = /^\/api\/call\/(\w+)$/.exec(url.pathname)?.[1];
    const job = /^\/api\/jobs\/([^/]+)\/events$/.exec(url.pathname)?.[1];
    if (command !== undefined && request.method === "POST") {
      let body = "";
      request.on("data", (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on("end", () => {
        const send = (status: number, value: unknown) => {
          response.writeHead(status, { "content-type": "application/json" });
          response.end(JSON.stringify(value));
        };
        try {
          send(200, engine.answer(command as never, JSON.parse(body) as never));
        } catch (refusal) {
          if (refusal instanceof FakeRefusal) send(409, refusal.object);
          else
            send(500, {
              code: "fault",
              message: String(refusal),
              hint: null,
              retryable: false,
              details: null,
            });
        }
      });
      return;
    }
    if (job !== undefined) {
      serveEvents(decodeURIComponent(job), Number(url.searchParams.get("from_seq") ?? 0), response);
      return;
    }
    void serveFile(url.pathname, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    engine,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
