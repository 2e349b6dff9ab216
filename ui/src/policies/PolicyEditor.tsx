import { Save, Scale } from "lucide-react";
import { type FormEvent, type ReactNode, useState } from "react";
import type { Keep, Policy, RetentionOutline } from "../api/bindings";
import { useAction, useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Bytes, Count } from "../elements/Bytes";
import { Confirm } from "../elements/Dialog";
import { Field } from "../elements/Field";
import { Notice } from "../elements/Notice";
import { Facts, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { Time } from "../time/Time";
import { planRequest } from "./request";
import { type Draft, draftOf, keepOf, RULES, spanProblem } from "./spans";

/** What is compared with the plan of now. */
interface Asked {
  policy: Policy;
  at: string | null;
}

function same(one: Keep, other: Keep): boolean {
  return RULES.every(({ key }) => one[key] === other[key]);
}

const DAY = /^\d{4}-\d{2}-\d{2}$/;

function dayProblem(text: string): string | null {
  if (text.trim() === "") return null;
  const time = DAY.test(text.trim()) ? Date.parse(`${text.trim()}T00:00:00Z`) : Number.NaN;
  if (Number.isNaN(time)) return "Write a day as 2027-06-14.";
  return time <= Date.now() ? "That day has begun: give one to come." : null;
}

/** What a policy keeps, in a few words. */
function inWords(keep: Keep): string {
  const kept = RULES.filter(({ key }) => keep[key] !== null);
  return kept.map(({ key }) => `${key.replace("_", " ")} ${keep[key]}`).join(", ");
}

/** What the form does not change, and keeps as it is. */
function Unchanged({ policy }: { policy: Policy }) {
  const rows: [string, ReactNode][] = policy.overrides.map(({ name, from, to, keep }) => [
    name,
    <span key={name}>
      <Time value={from} digits={0} /> to <Time value={to} digits={0} />: {inWords(keep)}
    </span>,
  ]);
  if (policy.size_cap !== null) rows.unshift(["Size cap", <Bytes key="c" value={policy.size_cap} exact />]);
  return rows.length === 0 ? null : <Facts rows={rows} />;
}

/** What would be otherwise than now. */
function Difference({ cluster, asked }: { cluster: string; asked: Asked }) {
  const then = useAnswer("retention_plan", planRequest(cluster, asked.at, asked.policy));
  if (then.isPending) return <Waiting what="the difference" />;
  if (then.error) return <Problem error={then.error} title="This cannot be planned" />;
  const { kept, lost, plan } = then.data;
  return (
    <div aria-live="polite">
      <Facts
        rows={[
          [
            asked.at === null ? "Kept by this policy" : "Left then of what is stored now",
            <span key="k">
              <Count value={kept.snapshots} /> snapshots, <Count value={kept.wal_segments} /> WAL segments,
              about <Bytes value={plan.size.kept} />
            </span>,
          ],
          ["Oldest snapshot", kept.oldest ? <Time key="o" value={kept.oldest} digits={0} /> : "none"],
          [
            "Kept now and not then",
            lost && (lost.snapshots > 0 || lost.wal_segments > 0) ? (
              <strong key="l" className="font-semibold text-degraded">
                <Count value={lost.snapshots} /> snapshots, <Count value={lost.wal_segments} /> WAL segments
              </strong>
            ) : (
              "nothing"
            ),
          ],
        ]}
      />
      {plan.warnings.map((warning) => (
        <Notice key={warning}>{warning}</Notice>
      ))}
    </div>
  );
}

/** The policy of a cluster: what it says, what another one would change, and setting that. */
export function PolicyEditor({ cluster, now }: { cluster: string; now: RetentionOutline }) {
  const { version, set_at: setAt, policy } = now.plan.policy;
  const [draft, setDraft] = useState<Draft>(() => draftOf(policy.keep));
  const [day, setDay] = useState("");
  const [asked, setAsked] = useState<Asked | null>(null);
  const [saving, setSaving] = useState(false);
  const save = useAction("policy_set", () => setSaving(false));
  const keep = keepOf(draft);
  const wrongDay = dayProblem(day);
  const changed = keep !== null && !same(keep, policy.keep);
  const compared = asked !== null && asked.at === null && keep !== null && same(asked.policy.keep, keep);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (keep === null || wrongDay !== null) return;
    setAsked({
      policy: { ...policy, keep },
      at: day.trim() === "" ? null : `${day.trim()}T00:00:00Z`,
    });
  };
  return (
    <Section
      title="Policy"
      aside={
        version === 0 ? (
          "the default: none was set"
        ) : (
          <>
            version {version}
            {setAt && (
              <>
                , set <Time value={setAt} digits={0} />
              </>
            )}
          </>
        )
      }
    >
      <form onSubmit={submit} noValidate aria-label="Policy" className="space-y-4">
        <div className="grid gap-4 sm:grid-cols-2 lg:grid-cols-3">
          {RULES.map(({ key, label, hint }) => (
            <Field
              key={key}
              label={label}
              value={draft[key]}
              placeholder="not kept"
              onChange={(value) => setDraft({ ...draft, [key]: value })}
              error={spanProblem(draft[key]) ?? undefined}
              hint={hint}
            />
          ))}
        </div>
        <Unchanged policy={policy} />
        <Field
          label="On which day (optional)"
          placeholder="2027-06-14"
          value={day}
          onChange={setDay}
          error={wrongDay ?? undefined}
          hint="What of all that is stored now would be left at the begin of that day, in UTC. Backups that will be taken until then are not made up."
          className="max-w-sm"
        />
        {keep === null && RULES.every(({ key }) => spanProblem(draft[key]) === null) && (
          <Notice>A policy that keeps nothing is not taken.</Notice>
        )}
        <div className="flex flex-wrap gap-2">
          <Button type="submit" icon={Scale} disabled={keep === null || wrongDay !== null}>
            Compare with now
          </Button>
          <Button look="primary" icon={Save} disabled={!changed || !compared} onClick={() => setSaving(true)}>
            Set this policy…
          </Button>
        </div>
        {changed && !compared && (
          <p className="text-small text-ink-3">Compare it with now, without a day, before it is set.</p>
        )}
      </form>
      {asked && (
        <div className="mt-4 border-t border-line pt-4">
          <Difference cluster={cluster} asked={asked} />
        </div>
      )}
      {saving && keep && (
        <Confirm
          title={`Set the policy of ${cluster}?`}
          action="Set this policy"
          busy={save.isPending}
          error={save.error}
          onConfirm={() => save.mutate({ cluster, policy: { ...policy, keep } })}
          onClose={() => setSaving(false)}
        >
          <p>
            What it does not keep is marked when retention is applied the next time, and can be taken back for
            a week after that. Earlier versions of the policy stay in the repository.
          </p>
        </Confirm>
      )}
    </Section>
  );
}
