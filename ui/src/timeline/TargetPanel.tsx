import { ChevronLeft, ChevronRight, History } from "lucide-react";
import { memo, useState } from "react";
import type { Commit } from "../api/bindings";
import { Button, ButtonLink } from "../elements/Button";
import { CopyButton } from "../elements/CopyButton";
import { Choice } from "../elements/Field";
import { Mono } from "../elements/Mono";
import { canExclude, type TargetKind, targetsOf } from "../restore/target";
import { formatDuration, secondsBetween } from "../time/format";
import { Ago, Time } from "../time/Time";
import { commitName } from "../wal/commit";
import { LossPreview } from "./LossPreview";

interface TargetPanelProps {
  cluster: string;
  commit: Commit;
  /** A time off the commits, when the cursor stands at one. */
  free: number | null;
  previous: Commit | null;
  next: Commit | null;
  timeline: number | null;
  side: Side;
  onSide: (side: Side) => void;
  preview: boolean;
  onPreview: () => void;
  onStep: (by: number) => void;
  /** Goes to a target that was named as one that would work. */
  onUse: (target: string) => void;
}

/** Whether the copy holds the target itself. */
export type Side = "inclusive" | "exclusive";

function Neighbour({ commit, from, word }: { commit: Commit | null; from: string; word: string }) {
  if (commit === null) return <p className="text-small text-ink-3">{word}: none is stored</p>;
  const seconds = Math.abs(secondsBetween(from, commit.time));
  return (
    <p className="text-small text-ink-2">
      {word}: {commitName(commit)}
      {commit.kind === "abort" ? " (rolled back)" : ""}, {formatDuration(seconds)}{" "}
      {word === "Before it" ? "earlier" : "later"}
    </p>
  );
}

/** Every form in which the selected place can be named. */
function formsOf(commit: Commit, free: number | null): ReturnType<typeof targetsOf> {
  if (free === null) return targetsOf(commit);
  const time = new Date(free).toISOString();
  return [{ kind: "time", label: "Time", target: `time:${time}`, value: time }];
}

function Head({
  commit,
  free,
  timeline,
  onStep,
}: Pick<TargetPanelProps, "commit" | "free" | "timeline" | "onStep">) {
  const time = free === null ? commit.time : new Date(free).toISOString();
  const name = commitName(commit);
  const title = free === null ? name.charAt(0).toUpperCase() + name.slice(1) : "A time between commits";
  return (
    <header className="border-b border-line px-4 py-3">
      <div className="flex items-center justify-between gap-2">
        <h2 className="min-w-0 truncate font-semibold">{title}</h2>
        <div className="flex shrink-0 gap-1">
          <Button size="small" aria-label="Previous commit" onClick={() => onStep(-1)}>
            <ChevronLeft aria-hidden className="size-4" />
          </Button>
          <Button size="small" aria-label="Next commit" onClick={() => onStep(1)}>
            <ChevronRight aria-hidden className="size-4" />
          </Button>
        </div>
      </div>
      <p className="mt-1.5 text-lead font-medium">
        <Time value={time} digits={free === null ? 6 : 3} both />
      </p>
      <p className="text-small text-ink-3">
        <Ago value={time} /> · timeline {free === null ? commit.timeline : (timeline ?? commit.timeline)}
      </p>
    </header>
  );
}

/** The selected place as a recovery target, in every form in which PostgreSQL takes it. */
export const TargetPanel = memo(function TargetPanel(props: TargetPanelProps) {
  const { cluster, commit, free, previous, next, timeline, side, onSide, preview, onPreview, onStep, onUse } =
    props;
  const [wanted, setWanted] = useState<TargetKind>("xid");
  const targets = formsOf(commit, free);
  const chosen = targets.find((each) => each.kind === wanted) ?? targets[0];
  const kind = chosen?.kind ?? "lsn";
  const exclusive = side === "exclusive" && canExclude(kind);
  const from = free === null ? commit.time : new Date(free).toISOString();
  const named = targets.some((each) => each.kind === "name");
  return (
    <section aria-label="Selected point" className="card">
      <Head commit={commit} free={free} timeline={timeline} onStep={onStep} />
      <div className="space-y-4 px-4 py-3.5">
        <fieldset>
          <legend className="label mb-1">As a target</legend>
          <ul className="divide-y divide-line rounded-md border border-line">
            {targets.map((each) => (
              <li key={each.kind} className="flex items-center gap-2 py-1 pr-1 pl-2.5">
                <label className="flex min-w-0 flex-1 cursor-pointer items-center gap-2.5 py-0.5">
                  <input
                    type="radio"
                    name="target-form"
                    checked={kind === each.kind}
                    onChange={() => setWanted(each.kind)}
                    className="size-4 shrink-0 accent-accent"
                  />
                  <span className="w-20 shrink-0 text-small text-ink-2">{each.label}</span>
                  <span className="min-w-0 text-small">
                    {each.kind === "time" ? (
                      <Time value={each.value} digits={6} className="!whitespace-normal" />
                    ) : (
                      <Mono value={each.value} />
                    )}
                  </span>
                </label>
                <CopyButton text={each.value} what={each.label.toLowerCase()} />
              </li>
            ))}
          </ul>
          {free !== null ? (
            <p className="mt-1 text-small text-ink-3">
              No commit stands here: recovery stops at the first one after it. Step to a commit for an exact
              target.
            </p>
          ) : (
            !named && <p className="mt-1 text-small text-ink-3">It has no name: it is not a restore point.</p>
          )}
        </fieldset>
        {canExclude(kind) ? (
          <Choice
            legend="The copy holds"
            value={side}
            onChange={onSide}
            options={[
              { value: "inclusive", label: "Everything up to it, and it" },
              { value: "exclusive", label: "Everything before it, nothing of it" },
            ]}
          />
        ) : (
          <p className="text-small text-ink-2">
            By name, the copy holds everything before the restore point.
          </p>
        )}
        <div className="space-y-0.5">
          <Neighbour commit={previous} from={from} word="Before it" />
          <Neighbour commit={next} from={from} word="After it" />
        </div>
        <LossPreview
          cluster={cluster}
          target={chosen?.target ?? "latest"}
          exclusive={exclusive}
          timeline={timeline}
          shown={preview}
          onShow={onPreview}
          onUse={onUse}
        />
        <ButtonLink
          to="/c/$cluster/restore/new"
          params={{ cluster }}
          search={{
            target: chosen?.target,
            exclusive: exclusive ? "true" : undefined,
            timeline: timeline === null ? undefined : String(timeline),
          }}
          look="primary"
          icon={History}
          className="w-full"
        >
          Restore to here…
        </ButtonLink>
      </div>
    </section>
  );
});
