import { Sigma } from "lucide-react";
import { useState } from "react";
import type { LossChanges as Changes, RelationLoss } from "../api/bindings";
import { useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Bytes, Count } from "../elements/Bytes";
import { Mono } from "../elements/Mono";
import { Problem } from "../elements/Problem";
import { ScrollRegion } from "../elements/ScrollRegion";
import { EVENT_WORDS, subjectOf } from "../wal/events";
import { relationName } from "../wal/relation";
import type { PlanRequest } from "./request";

function nameOf(lost: RelationLoss): string {
  const name = relationName(lost);
  return lost.relation === null ? name : `${lost.database ?? `database ${lost.database_oid}`}.${name}`;
}

/** What the numbers do not say: a part that was not read is never told as nothing. */
function Limits({ changes }: { changes: Changes }) {
  return (
    <div className="text-small text-ink-2">
      {changes.gaps.length > 0 && <p>WAL is missing in between: what was done there is not known.</p>}
      {changes.lower_bound && <p>Some of these transactions began earlier: they may have done more.</p>}
      {changes.events === null && <p>Whether tables were emptied, dropped or rewritten is not known.</p>}
      {changes.schema_changes === null ? (
        <p>Whether the schema was changed is not known.</p>
      ) : (
        changes.schema_changes > 0 && (
          <p>
            <Count value={changes.schema_changes} />{" "}
            {changes.schema_changes === 1 ? "transaction" : "transactions"} changed the schema.
          </p>
        )
      )}
    </div>
  );
}

/** Where there is no room for the last column, its number stands beneath the name. */
const WIDE = "hidden @min-[30rem]:table-cell";
const NARROW = "@min-[30rem]:hidden";

function Rows({ changes }: { changes: Changes }) {
  if (changes.relations.length === 0)
    return <p>No change of a table's rows was found{changes.complete ? "." : " in what was read."}</p>;
  return (
    <ScrollRegion label="Rows per table" className="@container">
      <table className="w-full text-right">
        <caption className="sr-only">Rows per table that the copy leaves out</caption>
        <thead className="text-small text-ink-3">
          <tr className="border-b border-line">
            <th scope="col" className="py-1.5 text-left font-medium">
              Table
            </th>
            {["Inserted", "Updated", "Deleted"].map((title) => (
              <th key={title} scope="col" className="py-1.5 pl-3 font-medium">
                {title}
              </th>
            ))}
            <th scope="col" className={`py-1.5 pl-3 font-medium ${WIDE}`}>
              Transactions
            </th>
          </tr>
        </thead>
        <tbody>
          {changes.relations.map((lost) => (
            <tr
              key={`${lost.database_oid} ${lost.oid} ${lost.relfilenode}`}
              className="border-b border-line/70 last:border-0"
            >
              <th scope="row" className="min-w-28 py-2 text-left font-normal [overflow-wrap:anywhere]">
                {lost.relation === null ? nameOf(lost) : <Mono value={nameOf(lost)} />}
                <span className={`block text-small text-ink-2 ${NARROW}`}>
                  in <Count value={lost.transactions} />{" "}
                  {lost.transactions === 1 ? "transaction" : "transactions"}
                </span>
              </th>
              {[lost.rows.inserted, lost.rows.updated, lost.rows.deleted].map((value, column) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: the columns never move
                <td key={column} className="py-2 pl-3 align-top">
                  <Count value={value} />
                </td>
              ))}
              <td className={`py-2 pl-3 align-top ${WIDE}`}>
                <Count value={lost.transactions} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollRegion>
  );
}

/** Tables that were emptied, dropped or rewritten since. */
function Events({ changes }: { changes: Changes }) {
  const events = changes.events ?? [];
  if (events.length === 0) return null;
  return (
    <ul className="space-y-1">
      {events.map((event) => (
        <li key={`${event.lsn} ${event.kind}`}>
          <span className="font-medium">{EVENT_WORDS[event.kind]}</span> {subjectOf(event)} by transaction{" "}
          <Mono value={event.xid} />
        </li>
      ))}
      {changes.events_more > 0 && (
        <li className="text-small text-ink-2">
          and <Count value={changes.events_more} /> more
        </li>
      )}
    </ul>
  );
}

interface LossChangesProps {
  /** What was read while the restore was planned; null when nothing was. */
  known: Changes | null;
  request: PlanRequest;
}

/** What going back discards, table by table. A plan reads only so much WAL; the rest is read when asked for. */
export function LossChanges({ known, request }: LossChangesProps) {
  const [asked, setAsked] = useState(false);
  const whole = useAnswer("restore_loss", request, {
    enabled: asked,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const changes = whole.data ?? known;
  const reading = asked && whole.isFetching;
  return (
    <div className="space-y-2">
      {changes && (
        <>
          <Rows changes={changes} />
          {changes.relations_more > 0 && (
            <p className="text-small text-ink-2">
              and <Count value={changes.relations_more} /> tables more
            </p>
          )}
          <Events changes={changes} />
          <Limits changes={changes} />
        </>
      )}
      {!changes?.complete && (
        <div className="space-y-2">
          <p className="font-medium">
            {changes === null ? (
              "Which rows go was not read yet."
            ) : (
              <>
                This is the WAL up to <Mono value={changes.to_lsn} />;{" "}
                <Bytes value={changes.wal_bytes_left} /> were not read.
              </>
            )}
          </p>
          <Button
            size="small"
            icon={Sigma}
            busy={reading}
            onClick={() => (asked ? void whole.refetch() : setAsked(true))}
          >
            {changes === null ? "Count the rows" : "Count the rest"}
          </Button>
          {reading && (
            <p role="status" className="text-small text-ink-3">
              Reading the WAL, ten minutes at most…
            </p>
          )}
        </div>
      )}
      {whole.error && !reading && <Problem error={whole.error} title="The rest could not be counted" />}
    </div>
  );
}
