import { FileSearch } from "lucide-react";
import { type FormEvent, useEffect, useRef, useState } from "react";
import type { AtTarget, Placement, Points, RestorePlan } from "../api/bindings";
import { useAction, useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Checkbox, Choice, Field, Select } from "../elements/Field";
import { Notice } from "../elements/Notice";
import { Section } from "../elements/Page";
import { formatTime } from "../time/format";
import { PlanPreview } from "./PlanPreview";
import { PlanRefused } from "./PlanRefused";
import { RunPlan } from "./RunPlan";
import { type PlanRequest, planRequest } from "./request";
import { TargetFields } from "./TargetFields";
import { formFor, readTarget, type TargetForm } from "./target";

const PLACEMENTS: readonly { value: Placement; label: string; hint: string }[] = [
  { value: "new", label: "A new directory", hint: "Nothing that exists is touched." },
  {
    value: "in_place",
    label: "In place of a data directory",
    hint: "Made and proven beside it, then the two change places. The old one is kept until it is purged.",
  },
  {
    value: "delta",
    label: "Over a data directory",
    hint: "What stands there is reused where it is right and overwritten where it is not. No way back.",
  },
];

const PATH_HINTS: Record<Placement, string> = {
  new: "It must be empty or not exist yet. It is never the source's own directory.",
  in_place: "The data directory to replace. Its server must be stopped.",
  delta: "The data directory to overwrite. Its server must be stopped.",
};

const AT_TARGET: readonly { value: AtTarget; label: string; hint: string }[] = [
  { value: "pause", label: "Pause there", hint: "Readable at once; promote or discard it afterwards." },
  { value: "promote", label: "Promote it", hint: "A writable copy on a new timeline, on loopback." },
  { value: "shutdown", label: "Shut it down", hint: "Leaves the directory; nothing keeps running." },
];

interface RestoreFormProps {
  cluster: string;
  target: string | undefined;
  exclusive: boolean;
  /** The timeline that a link asks for. */
  line?: string | undefined;
  points: Points | undefined;
  demo: boolean;
}

export function RestoreForm({ cluster, target, exclusive, line, points, demo }: RestoreFormProps) {
  const [form, setForm] = useState<TargetForm>(() => formFor(target, exclusive));
  const [destination, setDestination] = useState<string | null>(null);
  const [timeline, setTimeline] = useState(line ?? "latest");
  const [snapshot, setSnapshot] = useState("");
  const [accept, setAccept] = useState(false);
  const [atTarget, setAtTarget] = useState<AtTarget>("pause");
  const [placement, setPlacement] = useState<Placement>("new");
  const [tried, setTried] = useState(false);
  const [planned, setPlanned] = useState<{ request: PlanRequest; plan: RestorePlan } | null>(null);
  const heading = useRef<HTMLHeadingElement>(null);

  const suggestion = useAnswer("restore_destination", { cluster }, { staleTime: Number.POSITIVE_INFINITY });
  const plan = useAction("restore_plan");
  const to = destination ?? suggestion.data?.path ?? "";
  const suggesting = destination === null && suggestion.isPending;
  const reading = readTarget(form);

  const request: PlanRequest | null = reading.ok
    ? planRequest({
        cluster,
        target: reading.target,
        exclusive: reading.exclusive,
        timeline: timeline.trim() === "" ? null : timeline.trim(),
        to: to.trim(),
        snapshot: snapshot === "" ? null : snapshot,
        accept_host_differences: accept,
        ...(placement === "new" ? {} : { placement }),
      })
    : null;

  const current =
    planned && request && JSON.stringify(planned.request) === JSON.stringify(request) ? planned : null;
  const stale = planned !== null && current === null;

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (!request || request.to === "") return;
    setPlanned(null);
    plan.mutate(request, { onSuccess: (answer) => setPlanned({ request, plan: answer }) });
  };

  useEffect(() => {
    if (planned) heading.current?.focus();
  }, [planned]);

  const pathMissing = tried && to.trim() === "" && !suggesting;
  return (
    <div className="space-y-4">
      <form onSubmit={submit} noValidate className="space-y-4" aria-label="Restore">
        <Section title="1. Where recovery stops">
          <TargetFields
            form={form}
            onChange={setForm}
            points={points?.restore_points}
            error={!reading.ok && (tried || reading.wall) ? reading.message : undefined}
            wall={reading.ok ? undefined : reading.wall}
          />
        </Section>
        <Section title="2. Where the copy goes">
          <div className="space-y-4">
            <Field
              label={placement === "new" ? "New directory" : "Data directory"}
              mono
              value={to}
              onChange={setDestination}
              hint={PATH_HINTS[placement]}
              error={
                pathMissing
                  ? "Say where the copy shall go."
                  : suggestion.error
                    ? `No place could be suggested: ${suggestion.error.message}`
                    : undefined
              }
            />
            <Choice
              legend="What is there"
              value={placement}
              onChange={(wanted) => {
                setPlacement(wanted);
                // A path that was suggested for a new directory is none of an existing one.
                if (wanted !== "new" && destination === null) setDestination("");
                if (wanted === "new" && destination === "") setDestination(null);
              }}
              options={PLACEMENTS}
              columns="md:grid-cols-3"
            />
            <Choice
              legend="When the target is reached"
              value={atTarget}
              onChange={setAtTarget}
              options={AT_TARGET}
              columns="md:grid-cols-3"
            />
            <details>
              <summary className="w-fit text-ink-2 hover:text-ink">
                Timeline, snapshot, host differences
              </summary>
              <div className="mt-3 grid gap-4 md:grid-cols-2">
                <Field
                  label="Timeline"
                  value={timeline}
                  onChange={setTimeline}
                  hint="latest, current, or its number"
                />
                <Select
                  label="Start from"
                  value={snapshot}
                  onChange={setSnapshot}
                  options={[
                    { value: "", label: "The best snapshot for the target" },
                    ...(points?.snapshots ?? []).map((each) => ({
                      value: each.id,
                      label: `${formatTime(each.finished_at, "utc", { digits: 0 })}, ${each.state}`,
                    })),
                  ]}
                />
                <div className="md:col-span-2">
                  <Checkbox
                    label="Accept differences of this host"
                    hint="Go on although this machine's locale, collation or libraries differ from the source's. Indexes on text may then be wrong; the plan names what differs."
                    checked={accept}
                    onChange={setAccept}
                  />
                </div>
              </div>
            </details>
          </div>
        </Section>
        <div className="flex flex-wrap items-center gap-x-4 gap-y-2">
          <Button
            type="submit"
            look={current ? "secondary" : "primary"}
            icon={FileSearch}
            busy={plan.isPending || suggesting}
          >
            {planned ? "Plan again" : "Plan this restore"}
          </Button>
          <span className="text-small text-ink-3">Planning reads and checks. It writes nothing.</span>
        </div>
      </form>
      {plan.error && !plan.isPending && (
        <PlanRefused error={plan.error} onUse={(nearest) => setForm(formFor(nearest, false))} />
      )}
      {stale && (
        <Notice status>
          The request was changed since it was planned. Plan again to see what would happen now.
        </Notice>
      )}
      {current && (
        <section aria-labelledby="plan-heading" className="space-y-4">
          <h2 id="plan-heading" ref={heading} tabIndex={-1} className="pt-2 text-title font-semibold">
            3. The plan
          </h2>
          <PlanPreview plan={current.plan} request={current.request} />
          <RunPlan plan={current.plan} request={current.request} atTarget={atTarget} demo={demo} />
        </section>
      )}
    </div>
  );
}
