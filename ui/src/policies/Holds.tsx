import { Lock, LockOpen } from "lucide-react";
import { useState } from "react";
import type { Hold } from "../api/bindings";
import { useAction, useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Confirm } from "../elements/Dialog";
import { Entries } from "../elements/Entries";
import { Mono } from "../elements/Mono";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { Time } from "../time/Time";
import { PlaceHold } from "./PlaceHold";

function HeldThing({ on }: { on: Hold["on"] }) {
  if ("snapshot" in on)
    return (
      <>
        snapshot <Mono value={on.snapshot} />
      </>
    );
  return (
    <>
      <Time value={on.between.from} digits={0} /> to <Time value={on.between.to} digits={0} />
    </>
  );
}

/** What is kept whatever the policy says, until somebody lifts the hold. */
export function Holds({ cluster }: { cluster: string }) {
  const holds = useAnswer("holds_list", { cluster });
  const [placing, setPlacing] = useState(false);
  const [lifted, setLifted] = useState<Hold | null>(null);
  const lift = useAction("holds_remove", () => setLifted(null));
  return (
    <Section title="Holds">
      <p className="mb-3 text-ink-2">
        What a hold names is kept whatever the policy says, until somebody lifts the hold.
      </p>
      {holds.isPending && <Waiting what="the holds" />}
      {holds.error && (
        <Problem
          error={holds.error}
          title="The holds could not be read"
          onRetry={() => holds.refetch()}
          live={false}
        />
      )}
      {holds.data && (
        <Entries
          label="Holds"
          empty="None is placed."
          entries={holds.data.map((hold) => ({
            key: hold.id,
            main: (
              <>
                <HeldThing on={hold.on} />: {hold.reason}
              </>
            ),
            more: (
              <>
                placed <Time value={hold.placed_at} digits={0} /> · <Mono value={hold.id} />
              </>
            ),
            actions: (
              <Button
                size="small"
                icon={LockOpen}
                aria-label={`Lift the hold: ${hold.reason}…`}
                onClick={() => {
                  lift.reset();
                  setLifted(hold);
                }}
              >
                Lift…
              </Button>
            ),
          }))}
        />
      )}
      <div className="mt-4">
        <Button icon={Lock} onClick={() => setPlacing(true)}>
          Place a hold…
        </Button>
      </div>
      {placing && <PlaceHold cluster={cluster} onClose={() => setPlacing(false)} />}
      {lifted && (
        <Confirm
          title="Lift this hold?"
          action="Lift the hold"
          look="danger"
          busy={lift.isPending}
          error={lift.error}
          onConfirm={() => lift.mutate({ cluster, hold: lifted.id })}
          onClose={() => setLifted(null)}
        >
          <p>
            It was placed <Time value={lifted.placed_at} digits={0} /> because: {lifted.reason}
          </p>
          <p>
            What nothing else keeps is marked when retention is applied the next time, and can be taken back
            for a week after that.
          </p>
        </Confirm>
      )}
    </Section>
  );
}
