import { Play } from "lucide-react";
import { type FormEvent, useState } from "react";
import type { Inspection } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Field, TextArea } from "../elements/Field";
import { Mono } from "../elements/Mono";
import { Problem } from "../elements/Problem";
import { ScrollRegion } from "../elements/ScrollRegion";
import { formatDuration } from "../time/format";

/** Rows asked for at a time: enough to look, not enough to fill a window's memory. */
const ROWS = 200;

function Rows({ seen }: { seen: Inspection }) {
  return (
    <div className="space-y-1.5">
      <p role="status" className="text-small text-ink-2">
        {seen.rows.length} {seen.rows.length === 1 ? "row" : "rows"}
        {seen.truncated && ", the first of more"} from {seen.database} in {formatDuration(seen.seconds)}
        {seen.replayed_to !== null && (
          <>
            , as of <Mono value={seen.replayed_to} />
          </>
        )}
      </p>
      {seen.columns.length > 0 && (
        <ScrollRegion label="Rows" className="max-h-96 rounded-md border border-line">
          <table className="w-full text-left text-small">
            <thead className="sticky top-0 bg-sunken">
              <tr>
                {seen.columns.map((name, column) => (
                  // biome-ignore lint/suspicious/noArrayIndexKey: two columns may have one name
                  <th key={column} scope="col" className="px-3 py-1.5 font-medium whitespace-nowrap">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {seen.rows.map((row, number) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: a row of a result has no other name
                <tr key={number} className="border-t border-line/70">
                  {row.map((value, column) => (
                    // biome-ignore lint/suspicious/noArrayIndexKey: as above
                    <td key={column} className="px-3 py-1 align-top font-mono whitespace-pre">
                      {value ?? <span className="font-sans text-ink-3 italic">NULL</span>}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollRegion>
      )}
    </div>
  );
}

/** Looks into a restored copy with one query, which can change nothing. */
export function Look({ job }: { job: string }) {
  const [sql, setSql] = useState("");
  const [database, setDatabase] = useState("");
  const inspect = useAction("restore_inspect");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (sql.trim() === "") return;
    inspect.mutate({ job, database: database.trim() || null, sql, rows: ROWS });
  };
  return (
    <form onSubmit={submit} aria-label="Look into the copy" className="space-y-3">
      <div className="grid gap-3 sm:grid-cols-[12rem_minmax(0,1fr)]">
        <Field label="Database" value={database} onChange={setDatabase} placeholder="postgres" />
        <TextArea
          label="Query"
          value={sql}
          onChange={setSql}
          rows={3}
          hint="One SELECT, VALUES, TABLE or WITH, in a read-only transaction. It can change nothing."
        />
      </div>
      <Button type="submit" icon={Play} busy={inspect.isPending} disabled={sql.trim() === ""}>
        Run the query
      </Button>
      {inspect.error && <Problem error={inspect.error} title="The query was not answered" />}
      {inspect.data && !inspect.error && <Rows seen={inspect.data} />}
    </form>
  );
}
