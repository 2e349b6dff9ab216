import type { ReactNode } from "react";
import type { Commit, Points } from "../api/bindings";
import { Button } from "../elements/Button";
import { Bytes } from "../elements/Bytes";
import { Mono } from "../elements/Mono";
import { StateBadge } from "../elements/StateBadge";
import { Time } from "../time/Time";
import type { GapSpan } from "../wal/coverage";
import { isStop } from "./useCommits";

interface TableProps {
  caption: string;
  heads: readonly string[];
  rows: readonly { key: string; cells: readonly ReactNode[]; current?: boolean }[];
  empty: string;
  /** Whether it is seen, and so must be scrolled by keyboard too. */
  reachable: boolean;
}

function Table({ caption, heads, rows, empty, reachable }: TableProps) {
  if (rows.length === 0)
    return (
      <p className="text-ink-2">
        <strong className="font-semibold">{caption}:</strong> {empty}
      </p>
    );
  return (
    <section
      aria-label={caption}
      tabIndex={reachable ? 0 : undefined}
      className={reachable ? "overflow-x-auto" : ""}
    >
      <table className="w-full text-left">
        <caption className="pb-1 text-left font-semibold">{caption}</caption>
        <thead className="text-small text-ink-3">
          <tr className="border-b border-line">
            {heads.map((head) => (
              <th key={head} scope="col" className="py-1 pr-4 font-medium whitespace-nowrap">
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
                <td key={heads[index]} className="py-1.5 pr-4 align-top whitespace-nowrap">
                  {cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

interface TimelineTablesProps {
  points: Points;
  gaps: readonly GapSpan[];
  commits: readonly Commit[];
  selected: Commit | null;
  /** Whether it is seen. Unseen it stays for screen readers, but holds nothing that takes the focus. */
  visible: boolean;
  onSelect: (lsn: string) => void;
}

const KINDS: Record<Commit["kind"], string> = {
  commit: "commit",
  abort: "rolled back",
  restore_point: "restore point",
};

/** Everything that the picture shows, as tables. */
export function TimelineTables({ points, gaps, commits, selected, visible, onSelect }: TimelineTablesProps) {
  // A cell of its own, and only where it is seen.
  const choose = (lsn: string, name: string | null): ReactNode[] => {
    if (!visible) return [];
    if (name === null) return [""];
    return [
      <Button key="choose" size="small" aria-label={`Select ${name}`} onClick={() => onSelect(lsn)}>
        Select
      </Button>,
    ];
  };
  return (
    <div className="space-y-6">
      <Table
        reachable={visible}
        caption="Snapshots"
        empty="none is stored."
        heads={["State", "Consistent at", "Kind", "Timeline", "Usable from", "Database", "Added"]}
        rows={points.snapshots.map((snapshot) => ({
          key: snapshot.id,
          cells: [
            <StateBadge key="s" state={snapshot.state} />,
            <Time key="t" value={snapshot.finished_at} />,
            snapshot.kind,
            snapshot.timeline,
            <Mono key="l" value={snapshot.stop_lsn} />,
            <Bytes key="b" value={snapshot.bytes_logical} />,
            <Bytes key="a" value={snapshot.bytes_added} />,
          ],
        }))}
      />
      <Table
        reachable={visible}
        caption="WAL without a gap"
        empty="no WAL is stored."
        heads={["Timeline", "First commit", "Last commit", "From LSN", "To LSN"]}
        rows={points.windows.map((window) => ({
          key: `${window.timeline} ${window.from_lsn}`,
          cells: [
            window.timeline,
            <Time key="f" value={window.from} />,
            <Time key="t" value={window.to} />,
            <Mono key="a" value={window.from_lsn} />,
            <Mono key="b" value={window.to_lsn} />,
          ],
        }))}
      />
      <Table
        reachable={visible}
        caption="Gaps"
        empty="none. The stored WAL is whole."
        heads={["From LSN", "To LSN", "Between commits of", "and", "Cause", "Found"]}
        rows={gaps.map((span) => ({
          key: `${span.timeline} ${span.gap.from_lsn}`,
          cells: [
            <Mono key="a" value={span.gap.from_lsn} />,
            <Mono key="b" value={span.gap.to_lsn} />,
            <Time key="f" value={new Date(span.from).toISOString()} />,
            <Time key="t" value={new Date(span.to).toISOString()} />,
            span.gap.cause,
            <Time key="d" value={span.gap.detected_at} digits={0} />,
          ],
        }))}
      />
      <Table
        reachable={visible}
        caption="Restore points"
        empty="none."
        heads={["Name", "Made", "LSN", "Timeline", ...(visible ? ["Choose"] : [])]}
        rows={points.restore_points.map((point) => ({
          key: `${point.name} ${point.lsn}`,
          current: selected?.lsn === point.lsn,
          cells: [
            point.name,
            <Time key="t" value={point.time} />,
            <Mono key="l" value={point.lsn} />,
            point.timeline,
            ...choose(point.lsn, point.name),
          ],
        }))}
      />
      <Table
        reachable={visible}
        caption="Commits around the selected one"
        empty="none is stored."
        heads={["Time", "Transaction", "What", "LSN", "Timeline", ...(visible ? ["Choose"] : [])]}
        rows={commits.map((commit) => ({
          key: `${commit.timeline} ${commit.lsn}`,
          current: selected?.lsn === commit.lsn,
          cells: [
            <Time key="t" value={commit.time} digits={6} />,
            commit.kind === "restore_point" ? "–" : <Mono key="x" value={commit.xid} />,
            commit.kind === "restore_point" ? `restore point “${commit.name}”` : KINDS[commit.kind],
            <Mono key="l" value={commit.lsn} />,
            commit.timeline,
            ...choose(commit.lsn, isStop(commit) ? `transaction ${commit.xid}` : null),
          ],
        }))}
      />
    </div>
  );
}
