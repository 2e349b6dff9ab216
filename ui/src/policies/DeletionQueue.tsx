import { useNavigate } from "@tanstack/react-router";
import { Recycle, Undo2 } from "lucide-react";
import { useState } from "react";
import type { Queued } from "../api/bindings";
import { useAction, useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Confirm } from "../elements/Dialog";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { QueueTable } from "./QueueTable";

/** What is marked for removal, taking it back, and applying retention. */
export function DeletionQueue({ cluster }: { cluster: string }) {
  const navigate = useNavigate();
  const queue = useAnswer("retention_queue", { cluster }, { every: 15_000 });
  const [applying, setApplying] = useState(false);
  const [back, setBack] = useState<Queued | null>(null);
  const apply = useAction(
    "retention_start",
    ({ job }) => void navigate({ to: "/job/$job", params: { job } }),
  );
  const undelete = useAction("retention_undelete", () => setBack(null));
  return (
    <Section title="Deletion queue">
      {queue.isPending && <Waiting what="what is marked" />}
      {queue.error && (
        <Problem
          error={queue.error}
          title="What is marked could not be read"
          onRetry={() => queue.refetch()}
        />
      )}
      {queue.data && (
        <QueueTable
          queue={queue.data}
          action={(each) =>
            !each.removing && (
              <Button
                size="small"
                icon={Undo2}
                onClick={() => {
                  undelete.reset();
                  setBack(each);
                }}
              >
                Take back…
              </Button>
            )
          }
        />
      )}
      <div className="mt-4">
        <Button icon={Recycle} onClick={() => setApplying(true)}>
          Apply retention…
        </Button>
      </div>
      {applying && (
        <Confirm
          title={`Apply retention to ${cluster}?`}
          action="Apply retention"
          busy={apply.isPending}
          error={apply.error}
          onConfirm={() => apply.mutate({ cluster })}
          onClose={() => setApplying(false)}
        >
          <p>
            What is marked and due is removed; that cannot be undone. Then what the policy does not keep is
            marked, and can be taken back for a week. What a hold keeps, and what somebody may be reading,
            stays.
          </p>
        </Confirm>
      )}
      {back && (
        <Confirm
          title="Take this mark back?"
          action="Take the mark back"
          busy={undelete.isPending}
          error={undelete.error}
          onConfirm={() => undelete.mutate({ cluster, mark: back.id })}
          onClose={() => setBack(null)}
        >
          <p>
            What it names stays until retention is applied again. Then it is marked anew, unless a hold or
            another policy keeps it.
          </p>
        </Confirm>
      )}
    </Section>
  );
}
