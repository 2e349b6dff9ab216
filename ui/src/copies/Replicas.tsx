import { useNavigate } from "@tanstack/react-router";
import { CopyPlus, RefreshCw, Unlink } from "lucide-react";
import { useState } from "react";
import type { Lag, ReplicaState, Score } from "../api/bindings";
import { useAction, useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Bytes, Count } from "../elements/Bytes";
import { Confirm } from "../elements/Dialog";
import { Entries } from "../elements/Entries";
import { Mono } from "../elements/Mono";
import { Facts, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Unknown } from "../elements/Unknown";
import { Waiting } from "../elements/Waiting";
import { Duration, Time } from "../time/Time";
import { AddReplica } from "./AddReplica";

function Behind({ lag }: { lag: Lag }) {
  if (lag.objects === 0) return <>up to date</>;
  return (
    <span className="text-degraded">
      behind by <Duration seconds={lag.seconds} />: <Count value={lag.objects} /> objects,{" "}
      <Bytes value={lag.bytes} />
    </span>
  );
}

function Standing({ replica }: { replica: ReplicaState }) {
  if (replica.lag) return <Behind lag={replica.lag} />;
  return (
    <span className="text-broken">
      {replica.error?.message ?? "not known"}
      {replica.error?.hint && <span className="text-ink-2"> {replica.error.hint}</span>}
    </span>
  );
}

/** How much would have to be lost for everything to be lost. */
function Copies({ score }: { score: Score }) {
  const of = (have: number, want: number) => (
    <span className={have < want ? "text-degraded" : ""}>
      {have} of {want}
    </span>
  );
  return (
    <Facts
      rows={[
        ["Copies", of(score.copies, 3)],
        ["On different media", of(score.media, 2)],
        ["Off-site", of(score.off_site, 1)],
        [
          "That nobody can change",
          score.immutable === null ? (
            <Unknown key="i">not known: the stores do not say</Unknown>
          ) : (
            of(score.immutable, 1)
          ),
        ],
        [
          "Snapshots that a verification found damaged",
          <span key="e" className={score.errors > 0 ? "text-broken" : ""}>
            {score.errors}
          </span>,
        ],
      ]}
    />
  );
}

/** Where the copies of a cluster's repository are, how far they are behind, and bringing them up to date. */
export function Replicas({ cluster }: { cluster: string }) {
  const navigate = useNavigate();
  const known = useAnswer("replicas_list", { cluster }, { staleTime: 10_000 });
  const [adding, setAdding] = useState(false);
  const [forgotten, setForgotten] = useState<string | null>(null);
  const update = useAction(
    "replicate_start",
    ({ job }) => void navigate({ to: "/job/$job", params: { job } }),
  );
  const forget = useAction("replicas_forget", () => {
    setForgotten(null);
    void known.refetch();
  });
  const replicas = known.data?.replicas ?? [];
  return (
    <Section title="Replicas">
      <p className="mb-3 text-ink-2">
        The same repository in other places, with the same keys. When this one is lost, a replica is attached
        in its place.
      </p>
      {known.isPending && <Waiting what="the replicas" />}
      {known.error && (
        <Problem
          error={known.error}
          title="The replicas could not be asked"
          onRetry={() => known.refetch()}
          live={false}
        />
      )}
      {known.data && (
        <div className="space-y-5">
          <Copies score={known.data.score} />
          <Entries
            label="Replicas"
            empty="None is known: the loss of the repository is the loss of every backup."
            entries={replicas.map((replica) => ({
              key: replica.url,
              main: (
                <>
                  <Mono value={replica.url} copy="replica URL" /> · <Standing replica={replica} />
                </>
              ),
              more: (
                <>
                  known since <Time value={replica.added_at} digits={0} />
                </>
              ),
              actions: (
                <Button
                  size="small"
                  icon={Unlink}
                  aria-label={`Forget ${replica.url}…`}
                  onClick={() => {
                    forget.reset();
                    setForgotten(replica.url);
                  }}
                >
                  Forget…
                </Button>
              ),
            }))}
          />
        </div>
      )}
      {update.error && (
        <div className="mt-4">
          <Problem error={update.error} title="The replication was not started" />
        </div>
      )}
      <div className="mt-4 flex flex-wrap gap-2">
        <Button
          icon={RefreshCw}
          busy={update.isPending}
          disabled={replicas.length === 0}
          onClick={() => update.mutate({ cluster, to: null, bytes_per_second: null })}
        >
          Bring up to date
        </Button>
        <Button icon={CopyPlus} onClick={() => setAdding(true)}>
          Add a replica…
        </Button>
      </div>
      {adding && <AddReplica cluster={cluster} onClose={() => setAdding(false)} />}
      {forgotten && (
        <Confirm
          title="Forget this replica?"
          action="Forget the replica"
          look="danger"
          busy={forget.isPending}
          error={forget.error}
          onConfirm={() => forget.mutate({ cluster, url: forgotten })}
          onClose={() => setForgotten(null)}
        >
          <p className="break-words">
            <Mono value={forgotten} /> is not brought up to date any more and does not count as a copy. What
            is there stays, and is opened by the keys of today.
          </p>
        </Confirm>
      )}
    </Section>
  );
}
