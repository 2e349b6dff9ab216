/** Where a name stands at its mark; null where there is no room for it. */
export type NameSide = "after" | "before" | null;

/** How far a mark reaches to either side, in pixels. */
const MARK = 12;

/**
 * Places names beside marks so that none lies on another name or on a mark. `marks` go from left to
 * right: where each stands, and the room that its name needs with the space up to the mark, in pixels.
 * A name that the right edge would cut stands before its mark, if the left one does not cut it then.
 */
export function placeNames(marks: readonly { at: number; room: number }[], width: number): NameSide[] {
  let taken = Number.NEGATIVE_INFINITY;
  return marks.map(({ at, room }, index) => {
    const next = (marks[index + 1]?.at ?? Number.POSITIVE_INFINITY) - MARK;
    // What is drawn beside the window has no edge to be cut by.
    const edge = at <= width ? width : Number.POSITIVE_INFINITY;
    const after = at + room <= Math.min(next, edge);
    const before = !after && at + room > edge && at - room >= Math.max(taken, 0);
    taken = at + (after ? room : MARK);
    return after ? "after" : before ? "before" : null;
  });
}
