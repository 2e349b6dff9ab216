import type { ReactNode } from "react";
import type { Queued } from "../api/bindings";
import { Bytes, Count } from "../elements/Bytes";
import { Table } from "../elements/Table";
import { Time } from "../time/Time";

interface QueueTableProps {
  queue: readonly Queued[];
  /** What can be done with each. */
  action?: (each: Queued) => ReactNode;
}

/** What is marked for removal, and until when that can be taken back. */
export function QueueTable({ queue, action }: QueueTableProps) {
  return (
    <Table
      caption="Marked for removal"
      empty="nothing."
      heads={[
        "Marked",
        "Not removed before",
        ...(action ? ["Change"] : []),
        "Snapshots",
        "WAL segments",
        "Packs",
        "About",
      ]}
      rows={queue.map((each) => ({
        key: each.id,
        cells: [
          <Time key="m" value={each.marked_at} digits={0} />,
          each.removing ? "its removal has begun" : <Time key="d" value={each.due_at} digits={0} />,
          ...(action ? [<span key="a">{action(each)}</span>] : []),
          <Count key="s" value={each.snapshots.length} />,
          <Count key="w" value={each.wal_segments} />,
          <Count key="p" value={each.packs} />,
          <Bytes key="b" value={each.bytes} />,
        ],
      }))}
    />
  );
}
