import type { RetentionOutline, SnapshotFate, WalFate } from "../api/bindings";
import { Bytes, Count } from "../elements/Bytes";
import { Mono } from "../elements/Mono";
import { Notice } from "../elements/Notice";
import { Facts, Section } from "../elements/Page";
import { Table } from "../elements/Table";
import { Time } from "../time/Time";

function why(fate: SnapshotFate | WalFate): string {
  return fate.reasons.map(({ text }) => text).join("; ");
}

/** What is kept now and what is not, with the reasons. */
export function PlanNow({ outline }: { outline: RetentionOutline }) {
  const { plan, kept, dying } = outline;
  const shown = plan.snapshots.length;
  const all = kept.snapshots + dying.snapshots;
  return (
    <Section title="What follows from it now">
      {plan.warnings.map((warning) => (
        <Notice key={warning}>{warning}</Notice>
      ))}
      <Facts
        rows={[
          [
            "Kept",
            <span key="k">
              <Count value={kept.snapshots} /> snapshots, <Count value={kept.wal_segments} /> WAL segments,
              about <Bytes value={plan.size.kept} />
            </span>,
          ],
          [
            "Not kept",
            <span key="d">
              <Count value={dying.snapshots} /> snapshots, <Count value={dying.wal_segments} /> WAL segments,
              about <Bytes value={plan.size.dying} /> at most
            </span>,
          ],
        ]}
      />
      <div className="mt-4 space-y-6">
        <Table
          caption="Snapshots"
          empty="none is stored."
          heads={["Fate", "Begun", "Added", "Why", "Id"]}
          rows={plan.snapshots.map((fate) => ({
            key: fate.id,
            cells: [
              fate.kept ? "kept" : "not kept",
              <Time key="t" value={fate.started_at} digits={0} />,
              <Bytes key="b" value={fate.bytes_added} />,
              why(fate),
              <Mono key="i" value={fate.id} />,
            ],
          }))}
        />
        {shown < all && (
          <p className="text-small text-ink-3">
            These are <Count value={shown} /> of <Count value={all} />: what is not kept first, the newest
            first. The command holdfast retention plan lists all.
          </p>
        )}
        <Table
          caption="WAL"
          empty="none is stored."
          heads={["Fate", "Timeline", "From LSN", "To LSN", "First commit", "Last commit", "Size", "Why"]}
          rows={plan.wal.map((fate) => ({
            key: `${fate.system_identifier} ${fate.timeline} ${fate.from_lsn}`,
            cells: [
              fate.kept ? "kept" : "not kept",
              fate.timeline,
              <Mono key="f" value={fate.from_lsn} />,
              <Mono key="t" value={fate.to_lsn} />,
              fate.from ? <Time key="a" value={fate.from} digits={0} /> : "none",
              fate.to ? <Time key="b" value={fate.to} digits={0} /> : "none",
              <Bytes key="s" value={fate.bytes} />,
              why(fate),
            ],
          }))}
        />
      </div>
    </Section>
  );
}
