import { CircleCheck, OctagonX } from "lucide-react";
import type { DemoTable } from "../api/bindings";
import { Count } from "../elements/Bytes";
import { Section } from "../elements/Page";
import { ScrollRegion } from "../elements/ScrollRegion";
import { Unknown } from "../elements/Unknown";

function Restored({ table }: { table: DemoTable }) {
  if (table.restored === null) return <Unknown>not restored yet</Unknown>;
  const same = table.restored === table.at_target;
  return (
    <span className={`inline-flex items-center gap-1.5 ${same ? "" : "font-semibold text-broken"}`}>
      <Count value={table.restored} />
      {same ? (
        <>
          <CircleCheck aria-hidden className="size-4 text-ink-3" />
          <span className="sr-only">as before</span>
        </>
      ) : (
        <>
          <OctagonX aria-hidden className="size-4" />
          <span className="sr-only">not as before</span>
        </>
      )}
    </span>
  );
}

/** Rows of each table at the three moments that matter. */
export function DemoTables({ tables }: { tables: readonly DemoTable[] }) {
  return (
    <Section title="Rows" aside="counted by SQL, not estimated">
      <ScrollRegion label="Rows per table">
        <table className="w-full text-right">
          <caption className="sr-only">Rows per table before, after and restored</caption>
          <thead className="text-small text-ink-3">
            <tr className="border-b border-line">
              <th scope="col" className="py-1.5 pr-4 text-left font-medium">
                Table
              </th>
              <th scope="col" className="py-1.5 pr-4 font-medium">
                Before the DELETE
              </th>
              <th scope="col" className="py-1.5 pr-4 font-medium">
                After it
              </th>
              <th scope="col" className="py-1.5 font-medium">
                Restored
              </th>
            </tr>
          </thead>
          <tbody>
            {tables.map((table) => (
              <tr key={table.table} className="border-b border-line/70 last:border-0">
                <th scope="row" className="py-2 pr-4 text-left font-normal">
                  <code>{table.table}</code>
                </th>
                <td className="py-2 pr-4">
                  <Count value={table.at_target} />
                </td>
                <td
                  className={`py-2 pr-4 ${table.after_disaster < table.at_target ? "font-semibold text-broken" : ""}`}
                >
                  <Count value={table.after_disaster} />
                </td>
                <td className="py-2">
                  <Restored table={table} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollRegion>
    </Section>
  );
}
