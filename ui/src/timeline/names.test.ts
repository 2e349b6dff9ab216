import { expect, test } from "vitest";
import { placeNames } from "./names";

const WIDTH = 400;

test.each([
  ["with room around it", [{ at: 50, room: 100 }], ["after"]],
  [
    "that would reach the next mark",
    [
      { at: 50, room: 100 },
      { at: 150, room: 100 },
    ],
    [null, "after"],
  ],
  ["that the edge would cut", [{ at: 350, room: 100 }], ["before"]],
  [
    "that fits on neither side",
    [
      { at: 300, room: 40 },
      { at: 390, room: 60 },
    ],
    ["after", null],
  ],
  ["that either edge would cut", [{ at: 50, room: 380 }], [null]],
  ["beside the window", [{ at: 450, room: 100 }], ["after"]],
])("a name %s", (_, marks, sides) => expect(placeNames(marks, WIDTH)).toEqual(sides));
