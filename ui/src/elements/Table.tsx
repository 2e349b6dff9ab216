import type { ReactNode } from "react";
import { ScrollRegion } from "./ScrollRegion";

interface TableProps {
  caption: string;
  heads: readonly string[];
  rows: readonly { key: string; cells: readonly ReactNode[]; current?: boolean }[];
  /** What is said instead of a table without rows, after its name. */
  empty: string;
  /** Whether it is seen, and so must be scrolled by keyboard too. */
  reachable?: boolean;
  /** Leaves the caption to screen readers. */
  plain?: boolean;
}

/** Facts in rows; where they are wider than their place they scroll by themselves. */
export function Table({ caption, heads, rows, empty, reachable = true, plain = false }: TableProps) {
  if (rows.length === 0)
    return (
      <p className="text-ink-2">
        <strong className="font-semibold">{caption}:</strong> {empty}
      </p>
    );
  return (
    <ScrollRegion label={caption} reachable={reachable}>
      <table className="w-full text-left">
        <caption className={plain ? "sr-only" : "pb-1 text-left font-semibold"}>{caption}</caption>
        <thead className="text-small text-ink-3">
          <tr className="border-b border-line">
            {heads.map((head) => (
              <th key={head} scope="col" className="py-1 pr-4 font-medium whitespace-nowrap last:pr-0">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr
              key={row.key}
              aria-current={row.current || undefined}
              className={`border-b border-line/70 ${row.current ? "bg-accent-soft" : ""}`}
            >
              {row.cells.map((cell, index) => (
                <td key={heads[index]} className="py-1.5 pr-4 align-top whitespace-nowrap last:pr-0">
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollRegion>
  );
}
