import { memo, type ReactNode } from "react";
import type { Commit, Markers, SnapshotGroup, Timeline } from "../api/bindings";
import { Button } from "../elements/Button";
import { Bytes, Count } from "../elements/Bytes";
import { Mono } from "../elements/Mono";
import { lookOf, StateBadge } from "../elements/StateBadge";
import { Table } from "../elements/Table";
import { Time } from "../time/Time";
import { GAP_CAUSES } from "../wal/causes";
import type { GapSpan } from "../wal/coverage";
import { EVENT_WORDS, type TableEvent } from "../wal/events";
import { isStop } from "./useCommits";

interface TimelineTablesProps {
  timeline: Timeline;
  events: readonly TableEvent[];
  /** How much those are of what there is, in words. */
  eventsNote: string;
  unknown: Markers["unknown"];
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

/** Unseen, the words say it all: badges are most of what a table would hold. */
function statesOf(group: SnapshotGroup, visible: boolean): ReactNode {
  if (!visible)
    return group.states
      .map(([state, count]) => `${group.count > 1 ? `${count} ` : ""}${lookOf(state).word}`)
      .join(", ");
  return (
    <span className="inline-flex flex-wrap gap-2">
      {group.states.map(([state, count]) => (
        <span key={state} className="inline-flex items-center gap-1">
          {group.count > 1 && count} <StateBadge state={state} />
        </span>
      ))}
    </span>
  );
}

function snapshotCells(group: SnapshotGroup, visible: boolean): ReactNode[] {
  const one = group.snapshot;
  if (one === null)
    return [
      statesOf(group, visible),
      <span key="t">
        <Time value={group.span.from} digits={0} /> to <Time value={group.span.to} digits={0} />
      </span>,
      `${group.count} snapshots`,
      "zoom in",
      "",
      "",
      "",
    ];
  return [
    statesOf(group, visible),
    <Time key="t" value={one.finished_at} />,
    one.kind,
    one.timeline,
    <Mono key="l" value={one.stop_lsn} />,
    <Bytes key="b" value={one.bytes_logical} />,
    <Bytes key="a" value={one.bytes_added} />,
  ];
}

/** How many commits lie in what is shown, so that the heights of the drawing are not lost on anybody. */
function commitCells({ shown, density }: Timeline): { key: string; cells: ReactNode[] }[] {
  const PARTS = 12;
  const from = Date.parse(shown.from);
  const length = Date.parse(shown.to) - from;
  const sums = new Array<number>(PARTS).fill(0);
  density.counts.forEach((count, index) => {
    const middle = Date.parse(density.from) + (index + 0.5) * density.bucket_seconds * 1000;
    const part = Math.floor(((middle - from) / length) * PARTS);
    if (part >= 0 && part < PARTS) sums[part] = (sums[part] ?? 0) + count;
  });
  return sums.map((count, part) => {
    const begin = new Date(from + (length * part) / PARTS).toISOString();
    const end = new Date(from + (length * (part + 1)) / PARTS).toISOString();
    return {
      key: begin,
      cells: [<Time key="f" value={begin} />, <Time key="t" value={end} />, <Count key="c" value={count} />],
    };
  });
}

/** Everything that the picture shows, as tables. */
export const TimelineTables = memo(function TimelineTables(props: TimelineTablesProps) {
  const { timeline, events, eventsNote, unknown, gaps, commits, selected, visible, onSelect } = props;
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
        rows={timeline.snapshots.map((group) => ({
          key: group.snapshot?.id ?? group.span.from,
          cells: snapshotCells(group, visible),
        }))}
      />
      <Table
        reachable={visible}
        caption="WAL without a gap"
        empty="no WAL is stored."
        heads={["Timeline", "First commit", "Last commit", "From LSN", "To LSN"]}
        rows={timeline.windows.map((window) => ({
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
            `${GAP_CAUSES[span.gap.cause]}: ${span.gap.explanation}`,
            <Time key="d" value={span.gap.detected_at} digits={0} />,
          ],
        }))}
      />
      <Table
        reachable={visible}
        caption="Restore points"
        empty="none."
        heads={["Name", "Made", "LSN", "Timeline", ...(visible ? ["Choose"] : [])]}
        rows={timeline.restore_points.map((group) => ({
          key: group.point?.lsn ?? group.span.from,
          current: group.point !== null && selected?.lsn === group.point.lsn,
          cells: [
            group.point?.name ?? `${group.count} restore points: zoom in`,
            <Time key="t" value={group.span.from} />,
            <Mono key="l" value={group.point?.lsn} />,
            group.point?.timeline ?? "",
            ...choose(group.point?.lsn ?? "", group.point?.name ?? null),
          ],
        }))}
      />
      <Table
        reachable={visible}
        caption="Timelines"
        empty="none."
        heads={["Timeline", "Left timeline", "At", "Last commit there", "Ancestry"]}
        rows={timeline.branches.map((branch) => ({
          key: String(branch.timeline),
          cells: [
            branch.timeline,
            branch.parent ?? "none: it is the first",
            branch.parent === null ? "" : <Mono key="l" value={branch.switch_lsn} />,
            branch.parent === null ? "" : <Time key="t" value={branch.switch_time} />,
            branch.ancestry_missing ? "missing: recovery along it is refused" : "known",
          ],
        }))}
      />
      <Table
        reachable={visible}
        caption="Destructive events"
        empty={`${eventsNote}.`}
        heads={["What", "Rows", "When", "Transaction", "LSN", ...(visible ? ["Choose"] : [])]}
        rows={events.map((event) => ({
          key: event.key,
          cells: [
            `${EVENT_WORDS[event.kind]} ${event.subject}${event.rolledBack ? " (rolled back)" : ""}`,
            event.rows,
            <Time key="t" value={event.commitTime} digits={6} />,
            <Mono key="x" value={event.xid} />,
            <Mono key="l" value={event.commitLsn} />,
            ...choose(event.commitLsn, event.rolledBack ? null : `transaction ${event.xid}`),
          ],
        }))}
      />
      {unknown.length > 0 && (
        <Table
          reachable={visible}
          caption="Destructive events not known"
          empty=""
          heads={["Timeline", "From LSN", "To LSN", "First transaction", "Last transaction"]}
          rows={unknown.map((stretch) => ({
            key: `${stretch.timeline} ${stretch.from_lsn}`,
            cells: [
              stretch.timeline,
              <Mono key="a" value={stretch.from_lsn} />,
              <Mono key="b" value={stretch.to_lsn} />,
              <Time key="f" value={stretch.from} />,
              <Time key="t" value={stretch.to} />,
            ],
          }))}
        />
      )}
      <Table
        reachable={visible}
        caption="Commits in what is drawn"
        empty="none."
        heads={["From", "To", "Commits"]}
        rows={commitCells(timeline)}
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
});
