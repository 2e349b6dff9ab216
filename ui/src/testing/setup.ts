import { cleanup, configure } from "@testing-library/react";
import { afterEach, beforeEach, vi } from "vitest";
import { fakeEngine } from "./fake-client";

// The window talks to its own client module only; that is what tests replace.
vi.mock("../api/client", async () => {
  const { ApiError, toErrorObject } = await import("../api/error");
  const { callFake, attachFake } = await import("./fake-client");
  return { ApiError, toErrorObject, call: callFake, attachJob: attachFake };
});

// A busy machine is slow; what a failure prints is the message, not the whole page.
configure({ asyncUtilTimeout: 5_000, getElementError: (message) => new Error(message ?? "not found") });

class NoResizeObserver {
  observe() {}
  unobserve() {}
  disconnect() {}
}
globalThis.ResizeObserver ??= NoResizeObserver as unknown as typeof ResizeObserver;
window.scrollTo = () => {};

beforeEach(() => {
  fakeEngine.reset("busy");
  window.localStorage.clear();
});

afterEach(cleanup);
