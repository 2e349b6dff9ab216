import { act, renderHook } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { useInTurn } from "./useInTurn";

const at = (from: number, length = 100, width = 800) => ({ view: { from, to: from + length }, width });

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["requestAnimationFrame", "cancelAnimationFrame", "performance"] });
});

afterEach(() => {
  vi.useRealTimers();
});

const frame = () => act(() => vi.advanceTimersToNextFrame());

test("lanes take another place over one after the other, one a frame", () => {
  const [here, there] = [at(0), at(90)];
  const { result, rerender } = renderHook(({ newest }) => useInTurn(newest, 3), {
    initialProps: { newest: here },
  });
  expect(result.current).toEqual([here, here, here]);
  rerender({ newest: there });
  expect(result.current).toEqual([here, here, here]);
  for (const done of [1, 2, 3]) {
    frame();
    expect(result.current.filter((each) => each === there)).toHaveLength(done);
  }
});

test("a hand that moves on leaves no lane behind", () => {
  const { result, rerender } = renderHook(({ newest }) => useInTurn(newest, 3), {
    initialProps: { newest: at(0) },
  });
  for (let moved = 1; moved <= 9; moved += 1) {
    rerender({ newest: at(moved * 10) });
    frame();
  }
  // Each was drawn within as many frames as there are lanes.
  for (const lane of result.current) expect(lane.view.from).toBeGreaterThanOrEqual(70);
});

test("another zoom or width is taken over by all lanes at once", () => {
  const { result, rerender } = renderHook(({ newest }) => useInTurn(newest, 3), {
    initialProps: { newest: at(0) },
  });
  for (const newest of [at(0, 50), at(0, 50, 600)]) {
    rerender({ newest });
    expect(result.current).toEqual([newest, newest, newest]);
  }
});
