import { Check, RotateCw, TriangleAlert } from "lucide-react";
import type { RepositoryStatus } from "../api/bindings";
import { useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Bytes, Count } from "../elements/Bytes";
import { Facts, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Table } from "../elements/Table";
import { Unknown } from "../elements/Unknown";
import { Waiting } from "../elements/Waiting";
import { Time } from "../time/Time";

type Store = RepositoryStatus["store"];

/** What each property of a store is good for. */
const PROPERTIES: readonly { key: Exclude<keyof Store, "lock">; label: string; missing: string }[] = [
  {
    key: "put_if_absent",
    label: "Never writes over an object",
    missing: "Two machines could replace each other's objects: do not back up to this store from several.",
  },
  {
    key: "list_after_write",
    label: "Lists what was just written",
    missing: "What was just stored may look missing for a while.",
  },
  {
    key: "range_get",
    label: "Reads parts of objects",
    missing: "A restore has to read whole packs.",
  },
];

function Honoured({ honoured, missing }: { honoured: boolean; missing: string }) {
  const Icon = honoured ? Check : TriangleAlert;
  return (
    <span className={honoured ? "" : "text-degraded"}>
      <Icon aria-hidden className="mr-1.5 inline size-4 align-[-0.15em]" />
      {honoured ? "yes" : `no. ${missing}`}
    </span>
  );
}

/** Whether the store keeps what is put from whoever holds its credentials. */
function Locks({ lock }: { lock: Store["lock"] }) {
  switch (lock.kind) {
    case "rule":
      return (
        <span>
          <Check aria-hidden className="mr-1.5 inline size-4 align-[-0.15em]" />
          for {lock.days} days; {lock.mode === "compliance" ? "nobody" : "only who has a right of its own"}{" "}
          can remove it before
        </span>
      );
    case "no_rule":
      return (
        <Honoured
          honoured={false}
          missing="The bucket can lock objects, but has no rule that does: give it a default retention."
        />
      );
    case "none":
      return <Honoured honoured={false} missing="Whoever may write here may also remove everything." />;
    default:
      return <Unknown>the store does not say</Unknown>;
  }
}

/** What the store was found to honour, and what is in it. Asking writes one object and removes it again. */
export function StoreCard({ repository }: { repository: string }) {
  const status = useAnswer("repository_status", { repository }, { staleTime: Number.POSITIVE_INFINITY });
  const kinds = Object.entries(status.data?.objects ?? {});
  return (
    <Section title="Store">
      {status.isPending && <Waiting what="the store" />}
      {status.error && (
        <Problem
          error={status.error}
          title="The store could not be asked"
          onRetry={() => status.refetch()}
          live={false}
        />
      )}
      {status.data && !status.error && (
        <div className="space-y-5">
          <Facts
            rows={[
              ...PROPERTIES.map(
                ({ key, label, missing }) =>
                  [
                    label,
                    <Honoured key={key} honoured={status.data.store[key]} missing={missing} />,
                  ] as const,
              ),
              ["Locks what is put", <Locks key="lock" lock={status.data.store.lock} />] as const,
              ["Stored in all", <Bytes key="b" value={status.data.bytes} />] as const,
            ]}
          />
          <p className="text-small text-ink-3">
            Tried <Time value={new Date(status.dataUpdatedAt).toISOString()} digits={0} />
          </p>
          <Table
            caption="Objects"
            empty="none."
            heads={["Kind", "Number", "Size"]}
            rows={kinds.map(([kind, { objects, bytes }]) => ({
              key: kind,
              cells: [kind, <Count key="n" value={objects} />, <Bytes key="b" value={bytes} />],
            }))}
          />
          <Button icon={RotateCw} busy={status.isFetching} onClick={() => void status.refetch()}>
            Ask the store again
          </Button>
        </div>
      )}
    </Section>
  );
}
