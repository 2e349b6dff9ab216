import type { JobEvent } from "../api/bindings";
import type { Command, RequestOf, ResponseOf } from "../api/client";
import { ApiError } from "../api/error";
import { FakeEngine, FakeRefusal, journalOf } from "./fake-engine";

/** What tests put in the place of the window's client module; it must not load the window itself. */

export const fakeEngine = new FakeEngine();

export async function callFake<C extends Command>(command: C, request: RequestOf<C>): Promise<ResponseOf<C>> {
  try {
    return fakeEngine.answer(command, request);
  } catch (refusal) {
    if (refusal instanceof FakeRefusal) throw new ApiError(refusal.object);
    throw refusal;
  }
}

/** Who follows which job, so that a test can send more events. */
export const followers = new Map<string, (event: JobEvent) => void>();

export function attachFake(job: string, fromSeq: number, onEvent: (event: JobEvent) => void): () => void {
  for (const event of journalOf(job)) if (event.seq >= fromSeq) onEvent(event);
  followers.set(job, onEvent);
  return () => followers.delete(job);
}

/** The requests of one command that arrived so far. */
export function requestsOf<C extends Command>(command: C): RequestOf<C>[] {
  return fakeEngine.seen
    .filter((each) => each.command === command)
    .map((each) => each.request as RequestOf<C>);
}
