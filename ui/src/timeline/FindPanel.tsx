import { ScanSearch } from "lucide-react";
import { type FormEvent, memo, useState } from "react";
import type { Found } from "../api/bindings";
import { call, type RequestOf } from "../api/client";
import { Button, ButtonLink } from "../elements/Button";
import { Count } from "../elements/Bytes";
import { Checkbox, Choice, Field } from "../elements/Field";
import { Mono } from "../elements/Mono";
import { Notice } from "../elements/Notice";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Table } from "../elements/Table";
import { formatDuration } from "../time/format";
import { Time } from "../time/Time";
import type { Span } from "../wal/coverage";
import { EVENT_WORDS, eventOfFound, type TableEvent } from "../wal/events";

/** What was looked for, and what was found: kept above the form, so that the picture draws it too. */
export interface Search {
  request: RequestOf<"find">;
  found: Found | null;
  error: unknown;
}

interface EventsProps {
  cluster: string;
  found: Found;
  onSelect: (event: TableEvent) => void;
}

function Events({ cluster, found, onSelect }: EventsProps) {
  const events = found.events.map((each) => ({ ...eventOfFound(each), lsn: each.lsn }));
  return (
    <>
      <p className="text-ink-2">
        <Count value={events.length} />
        {found.truncated ? " events, the first of more" : events.length === 1 ? " event" : " events"} in the
        WAL from <Mono value={found.from_lsn} /> to <Mono value={found.to_lsn} />
      </p>
      <Table
        plain
        caption="What was found"
        empty="nothing."
        heads={["What", "Rows", "When", "Transaction", "Before it"]}
        rows={events.map((event) => ({
          key: `${event.key} ${event.lsn}`,
          cells: [
            <span key="w">
              <span className="font-medium">{EVENT_WORDS[event.kind]}</span> {event.subject}
              {event.rolledBack && (
                <span className="block text-small text-ink-3">rolled back: nothing of it counts</span>
              )}
            </span>,
            event.rows,
            <Time key="t" value={event.commitTime} digits={6} />,
            <Mono key="x" value={event.xid} />,
            event.rolledBack ? (
              ""
            ) : (
              <span key="b" className="flex gap-1.5">
                <Button
                  size="small"
                  aria-label={`Go to just before transaction ${event.xid}`}
                  onClick={() => onSelect(event)}
                >
                  Go to it
                </Button>
                <ButtonLink
                  size="small"
                  to="/c/$cluster/restore/new"
                  params={{ cluster }}
                  search={{ target: event.target, exclusive: "true" }}
                >
                  Restore to just before…
                </ButtonLink>
              </span>
            ),
          ],
        }))}
      />
    </>
  );
}

interface FindPanelProps {
  cluster: string;
  view: Span;
  search: Search | null;
  onSearch: (search: Search) => void;
  onSelect: (event: TableEvent) => void;
}

/** "What deleted this table?", asked of the archived WAL. */
export const FindPanel = memo(function FindPanel(props: FindPanelProps) {
  const { cluster, view, search, onSearch, onSelect } = props;
  const [table, setTable] = useState("");
  const [kinds, setKinds] = useState({ drops: true, truncates: true, mass_deletes: true });
  const [where, setWhere] = useState<"shown" | "all">("shown");
  const [busy, setBusy] = useState(false);
  const named = table.trim() !== "";
  const nothing = !named && !kinds.drops && !kinds.truncates && !kinds.mass_deletes;
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (nothing || busy) return;
    // A named table is asked for whole: everything that happened to it.
    const request: RequestOf<"find"> = {
      cluster,
      table: named ? table.trim() : null,
      xid: null,
      drops: kinds.drops && !named,
      truncates: kinds.truncates && !named,
      mass_deletes: kinds.mass_deletes && !named,
      from: where === "shown" ? new Date(Math.floor(view.from)).toISOString() : null,
      to: where === "shown" ? new Date(Math.ceil(view.to)).toISOString() : null,
    };
    setBusy(true);
    try {
      onSearch({ request, found: await call("find", request), error: null });
    } catch (error) {
      onSearch({ request, found: null, error });
    } finally {
      setBusy(false);
    }
  };
  const tick = (kind: keyof typeof kinds) => (checked: boolean) => setKinds({ ...kinds, [kind]: checked });
  return (
    <Section
      title="What happened to a table?"
      aside="Read out of the archived WAL. Searching changes nothing."
    >
      <form onSubmit={(event) => void submit(event)} aria-label="Find what happened" className="space-y-3">
        <div className="grid gap-4 lg:grid-cols-2">
          <Field
            label="Table"
            value={table}
            onChange={setTable}
            hint="name, schema.name or database.schema.name, as it was called then; empty for any table"
          />
          <Choice
            legend="Where"
            value={where}
            onChange={setWhere}
            options={[
              { value: "shown", label: `In what is shown (${formatDuration((view.to - view.from) / 1000)})` },
              { value: "all", label: "In everything that is stored", hint: "May read a lot of WAL." },
            ]}
            columns="sm:grid-cols-2"
          />
        </div>
        <div className="flex flex-wrap items-center gap-x-6 gap-y-2">
          {named ? (
            <span className="text-ink-2">Everything that happened to this table.</span>
          ) : (
            <>
              <Checkbox label="Dropped" checked={kinds.drops} onChange={tick("drops")} />
              <Checkbox label="Truncated" checked={kinds.truncates} onChange={tick("truncates")} />
              <Checkbox
                label="Many rows deleted"
                checked={kinds.mass_deletes}
                onChange={tick("mass_deletes")}
              />
            </>
          )}
          <Button type="submit" icon={ScanSearch} busy={busy} disabled={nothing}>
            Search
          </Button>
          {busy && (
            <span role="status" className="text-small text-ink-3">
              Reading the WAL…
            </span>
          )}
        </div>
      </form>
      {search && (
        <div className="mt-4 space-y-3" aria-live="polite">
          {search.error !== null && <Problem error={search.error} title="The search ended early" />}
          {search.found && search.found.events.length === 0 && (
            <p>
              Nothing of the kind was found
              {search.found.gaps.length > 0 ? " in the WAL that is stored." : "."}
            </p>
          )}
          {search.found && search.found.gaps.length > 0 && (
            <Notice>WAL is missing in between: what happened there is not known.</Notice>
          )}
          {search.found && !search.found.names_known && (
            <p className="text-ink-2">
              No snapshot of that time is stored, so the names of tables are not known.
            </p>
          )}
          {search.found && search.found.events.length > 0 && (
            <Events cluster={cluster} found={search.found} onSelect={onSelect} />
          )}
        </div>
      )}
    </Section>
  );
});
