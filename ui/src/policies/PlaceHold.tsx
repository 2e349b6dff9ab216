import { type FormEvent, useState } from "react";
import { useAction } from "../api/queries";
import { Dialog, SubmitOrCancel } from "../elements/Dialog";
import { Choice, Field } from "../elements/Field";
import { Problem } from "../elements/Problem";
import { parseTime, timeProblem } from "../time/parse";

type On = "time" | "snapshot";

function orderProblem(from: string, to: string): string | null {
  const [first, last] = [parseTime(from), parseTime(to)];
  return first.ok && last.ok && first.millis > last.millis ? "It ends before it begins." : null;
}

function utcOf(text: string): string | null {
  const time = parseTime(text);
  return time.ok ? time.utc : null;
}

/** Asks what is to be held and why. */
export function PlaceHold({ cluster, onClose }: { cluster: string; onClose: () => void }) {
  const [on, setOn] = useState<On>("time");
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const [snapshot, setSnapshot] = useState("");
  const [reason, setReason] = useState("");
  const [tried, setTried] = useState(false);
  const place = useAction("holds_add", onClose);
  const problems = {
    from: on === "time" ? timeProblem(from) : null,
    to: on === "time" ? (timeProblem(to) ?? orderProblem(from, to)) : null,
    snapshot: on === "snapshot" && snapshot.trim() === "" ? "Name the snapshot." : null,
    reason: reason.trim() === "" ? "Say why: whoever wants to lift it has to know." : null,
  };
  const shown = (problem: string | null) => (tried ? (problem ?? undefined) : undefined);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (Object.values(problems).some(Boolean)) return;
    const times = on === "time" ? { from: utcOf(from), to: utcOf(to) } : { from: null, to: null };
    place.mutate({
      ...{ cluster, ...times },
      snapshot: on === "snapshot" ? snapshot.trim() : null,
      reason: reason.trim(),
    });
  };
  return (
    <Dialog title="Place a hold" onClose={onClose}>
      <form onSubmit={submit} noValidate aria-label="Place a hold" className="space-y-4">
        <Choice
          legend="What shall be held?"
          value={on}
          onChange={setOn}
          options={[
            {
              value: "time",
              label: "Everything between two times",
              hint: "Every snapshot and every transaction: any point in it stays reachable.",
            },
            { value: "snapshot", label: "One snapshot", hint: "With the WAL that it needs itself." },
          ]}
        />
        {on === "time" ? (
          <div className="grid gap-4 sm:grid-cols-2">
            <Field
              label="From"
              placeholder="2026-05-04 00:00:00Z"
              value={from}
              onChange={setFrom}
              error={shown(problems.from)}
            />
            <Field
              label="To"
              placeholder="2026-05-05 00:00:00Z"
              value={to}
              onChange={setTo}
              error={shown(problems.to)}
            />
          </div>
        ) : (
          <Field
            label="Snapshot"
            mono
            value={snapshot}
            onChange={setSnapshot}
            error={shown(problems.snapshot)}
            hint="Its id, as it is listed under what is kept."
          />
        )}
        <Field
          label="Why"
          placeholder="Case 2026-114"
          value={reason}
          onChange={setReason}
          error={shown(problems.reason)}
        />
        {place.error && <Problem error={place.error} title="The hold was not placed" />}
        <SubmitOrCancel action="Place the hold" busy={place.isPending} onClose={onClose} />
      </form>
    </Dialog>
  );
}
