import { FileSearch } from "lucide-react";
import { useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Bytes, Count } from "../elements/Bytes";
import { Facts } from "../elements/Page";
import { StateBadge } from "../elements/StateBadge";
import { Waiting } from "../elements/Waiting";
import { LossChanges } from "../restore/LossChanges";
import { LossFacts, leavesOut } from "../restore/LossFacts";
import { PlanRefused } from "../restore/PlanRefused";
import { planRequest } from "../restore/request";
import { formatDuration } from "../time/format";
import { Time } from "../time/Time";
import { useSettled } from "./useSettled";

interface LossPreviewProps {
  cluster: string;
  target: string;
  exclusive: boolean;
  timeline: number | null;
  shown: boolean;
  onShow: () => void;
  onUse: (target: string) => void;
}

const SETTLE_MS = 300;

function Preview({
  cluster,
  target,
  exclusive,
  timeline,
  onUse,
}: Omit<LossPreviewProps, "shown" | "onShow">) {
  // Whoever steps through commits does not ask for a plan of each.
  const wanted = JSON.stringify([target, exclusive]);
  const settled = useSettled(wanted, SETTLE_MS);
  const place = useAnswer("restore_destination", { cluster }, { staleTime: Number.POSITIVE_INFINITY });
  const request = planRequest({
    cluster,
    target,
    exclusive,
    timeline: timeline === null ? "latest" : String(timeline),
    to: place.data?.path ?? "",
    accept_host_differences: true,
  });
  const plan = useAnswer("restore_plan", request, {
    enabled: place.data !== undefined && settled === wanted,
    staleTime: 10_000,
  });
  if (place.error) return <PlanRefused error={place.error} onUse={onUse} />;
  if (plan.error) return <PlanRefused error={plan.error} onUse={onUse} />;
  if (!plan.data) return <Waiting what="what would be lost" />;
  const { loss, snapshot, estimate_seconds: estimate } = plan.data;
  return (
    <div className="space-y-3">
      <LossFacts loss={loss} />
      {leavesOut(loss) && (
        <LossChanges key={JSON.stringify(request)} known={loss.changes ?? null} request={request} />
      )}
      <Facts
        rows={[
          [
            "Starts from",
            <span key="s" className="inline-flex flex-wrap items-center gap-2">
              <Time value={snapshot.finished_at} digits={0} /> <StateBadge state={snapshot.state} />
            </span>,
          ],
          [
            "Reads",
            <span key="r">
              <Bytes value={plan.data.bytes_fetch} /> and <Count value={plan.data.wal_segments} /> WAL
              segments
            </span>,
          ],
          [
            "Space",
            <span key="n">
              <Bytes value={plan.data.bytes_needed} /> of <Bytes value={plan.data.bytes_free} /> free here
            </span>,
          ],
          [
            "Takes",
            estimate
              ? `${formatDuration(estimate.low)} to ${formatDuration(estimate.high)}`
              : "unknown: nothing was restored here yet",
          ],
        ]}
      />
    </div>
  );
}

/** What a restore to the selected point would lose, worked out by the engine. It writes nothing. */
export function LossPreview({ shown, onShow, ...preview }: LossPreviewProps) {
  return (
    <section aria-label="Loss preview" className="border-t border-line pt-3.5">
      {shown ? (
        <>
          <h3 className="mb-2 font-semibold">What would be lost</h3>
          <Preview {...preview} />
        </>
      ) : (
        <Button icon={FileSearch} onClick={onShow} className="w-full">
          Preview what would be lost
        </Button>
      )}
    </section>
  );
}
