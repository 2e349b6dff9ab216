import { act, renderHook } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { useRested } from "./useRested";

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

const wait = (time: number) => act(async () => vi.advanceTimersByTime(time));

test("a value follows once it has not changed for so long", async () => {
  const { result, rerender } = renderHook(({ value }) => useRested(value, 600), {
    initialProps: { value: "a" },
  });
  rerender({ value: "b" });
  await wait(599);
  expect(result.current.rested).toBe("a");
  rerender({ value: "c" });
  await wait(599);
  expect(result.current.rested).toBe("a");
  await wait(1);
  expect(result.current.rested).toBe("c");
});

test("it waits for as long as somebody moves something", async () => {
  const { result, rerender } = renderHook(({ value }) => useRested(value, 600), {
    initialProps: { value: "a" },
  });
  rerender({ value: "b" });
  await wait(500);
  act(() => result.current.onMove());
  await wait(599);
  expect(result.current.rested).toBe("a");
  await wait(1);
  expect(result.current.rested).toBe("b");
});
