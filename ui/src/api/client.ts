import type { Commands, JobEvent } from "./bindings";
import { httpTransport } from "./http";
import { tauriTransport } from "./tauri";

export { ApiError, toErrorObject } from "./error";

/** How commands reach the engine: the window's own bridge, or the development host on loopback. */
export interface Transport {
  call(command: string, request: unknown): Promise<unknown>;
  /** Delivers every event with `seq >= fromSeq` in order, then live ones; returns the way to stop. */
  attachJob(job: string, fromSeq: number, onEvent: (event: JobEvent) => void): () => void;
}

export type Command = keyof Commands;
export type RequestOf<C extends Command> = Commands[C]["request"];
export type ResponseOf<C extends Command> = Commands[C]["response"];

let chosen: Transport | null = null;

function transport(): Transport {
  chosen ??= "__TAURI_INTERNALS__" in window ? tauriTransport() : httpTransport();
  return chosen;
}

/** Runs one command. Rejects with an `ApiError` that carries the error object. */
export async function call<C extends Command>(command: C, request: RequestOf<C>): Promise<ResponseOf<C>> {
  return (await transport().call(command, request)) as ResponseOf<C>;
}

/** Follows a job's journal from `fromSeq` on. Events arrive in order, each once. */
export function attachJob(job: string, fromSeq: number, onEvent: (event: JobEvent) => void): () => void {
  return transport().attachJob(job, fromSeq, onEvent);
}
