import { expect, test } from "vitest";
import { isLsn, walBetween } from "./lsn";

test.each([
  ["0/3000060", "0/3000060", 0],
  ["0/FFFFFFFF", "1/0", 1],
  ["1/0", "0/FFFFFFFF", -1],
  ["FFFFFFFF/FFFFFFF0", "ffffffff/ffffffff", 15],
  ["0/1", "somewhere", null],
])("from %s to %s it is %s bytes", (from, to, bytes) => expect(walBetween(from, to)).toBe(bytes));

test("what is no place in the WAL is not taken for one", () => {
  expect(["0/3000060", "A/b"].every(isLsn)).toBe(true);
  expect(["", "0", "0/", "/1", "0/123456789", "G/1", "0/1 "].some(isLsn)).toBe(false);
});
