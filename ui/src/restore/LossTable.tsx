import type { LossChanges, RelationLoss } from "../api/bindings";
import { Bytes, Count } from "../elements/Bytes";
import { Section } from "../elements/Page";

function name(lost: RelationLoss): string {
  const database = lost.database ?? `database ${lost.database_oid}`;
  return `${database}.${lost.relation ?? `file ${lost.relfilenode ?? "unknown"}`}`;
}

/** What the numbers do not say: a part that was not read is never told as nothing. */
function Limits({ changes }: { changes: LossChanges }) {
  return (
    <div className="mt-2 text-small text-ink-2">
      {!changes.complete && (
        <p>
          Only the WAL up to <code>{changes.to_lsn}</code> was looked at;{" "}
          <Bytes value={changes.wal_bytes_left} /> were not.
        </p>
      )}
      {changes.lower_bound && <p>Some of these transactions began earlier: they may have done more.</p>}
      {changes.events === null && <p>Whether tables were emptied, dropped or rewritten is not known.</p>}
      {changes.schema_changes === null ? (
        <p>Whether the schema was changed is not known.</p>
      ) : (
        changes.schema_changes > 0 && (
          <p>
            <Count value={changes.schema_changes} /> transactions changed the schema.
          </p>
        )
      )}
    </div>
  );
}

/** Rows per table that going back discards. */
export function LossTable({ changes }: { changes: LossChanges }) {
  const events = changes.events ?? [];
  return (
    <Section title="Rows that are left out" aside="read from the archived WAL">
      {changes.relations.length === 0 ? (
        <p>No change of a table's rows was found in what was looked at.</p>
      ) : (
        <div className="overflow-x-auto">
          <table className="w-full text-right">
            <caption className="sr-only">Rows per table that the copy leaves out</caption>
            <thead className="text-small text-ink-3">
              <tr className="border-b border-line">
                <th scope="col" className="py-1.5 pr-4 text-left font-medium">
                  Table
                </th>
                {["Inserted", "Updated", "Deleted", "Transactions"].map((title) => (
                  <th key={title} scope="col" className="py-1.5 pl-4 font-medium">
                    {title}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {changes.relations.map((lost) => (
                <tr key={name(lost)} className="border-b border-line/70 last:border-0">
                  <th scope="row" className="py-2 pr-4 text-left font-normal">
                    <code>{name(lost)}</code>
                  </th>
                  {[lost.rows.inserted, lost.rows.updated, lost.rows.deleted, lost.transactions].map(
                    (value, n) => (
                      // biome-ignore lint/suspicious/noArrayIndexKey: the columns never move
                      <td key={n} className="py-2 pl-4">
                        <Count value={value} />
                      </td>
                    ),
                  )}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {changes.relations_more > 0 && (
        <p className="mt-2 text-small text-ink-2">
          and <Count value={changes.relations_more} /> tables more
        </p>
      )}
      {events.length > 0 && (
        <ul className="mt-3 space-y-1">
          {events.map((event) => (
            <li key={`${event.lsn} ${event.kind}`}>
              {event.kind.replaceAll("_", " ")} of{" "}
              <code>{event.relation ?? event.database ?? "unknown"}</code> by transaction{" "}
              <code>{event.xid}</code>
            </li>
          ))}
        </ul>
      )}
      <Limits changes={changes} />
    </Section>
  );
}
