import { useId } from "react";
import type { RestorePoint } from "../api/bindings";
import { Button } from "../elements/Button";
import { Choice, Field, Select } from "../elements/Field";
import { formatTime } from "../time/format";
import { parseTime, readAsLocal, readAsUtc, type Wall } from "../time/parse";
import { Time } from "../time/Time";
import { canExclude, type TargetForm, type TargetKind } from "./target";

const KINDS: readonly { value: TargetKind; label: string; hint: string }[] = [
  { value: "latest", label: "Latest", hint: "Everything that is stored" },
  { value: "time", label: "Time", hint: "By commit time" },
  { value: "xid", label: "Transaction", hint: "By its id" },
  { value: "lsn", label: "LSN", hint: "By place in the WAL" },
  { value: "name", label: "Restore point", hint: "By its name" },
];

/** Asks what a time without an offset was meant to be, instead of guessing. */
function ZoneQuestion({ wall, onChoose }: { wall: Wall; onChoose: (utc: string) => void }) {
  const local = readAsLocal(wall);
  return (
    <div className="flex flex-wrap items-center gap-2 text-small">
      <span className="text-ink-2">Did you mean</span>
      <Button size="small" onClick={() => onChoose(readAsUtc(wall))}>
        UTC
      </Button>
      {local.map((reading) => (
        <Button key={reading.utc} size="small" onClick={() => onChoose(reading.utc)}>
          This machine's time, {reading.offset}
        </Button>
      ))}
      {local.length > 1 && (
        <span className="w-full text-degraded">
          Clocks were set back in that hour: this time occurred twice. The earlier one comes first.
        </span>
      )}
      {local.length === 0 && (
        <span className="w-full text-degraded">
          Clocks were set forward over that hour: it did not occur in this machine's time.
        </span>
      )}
    </div>
  );
}

function TimeField({ form, error, wall, onChange }: TargetFieldsProps & { wall?: Wall }) {
  const reading = parseTime(form.time);
  return (
    <div className="space-y-2">
      <Field
        label="Recover to this time"
        mono
        placeholder="2026-05-04 14:31:58.412 UTC"
        value={form.time}
        onChange={(time) => onChange({ ...form, time })}
        error={error}
        hint={
          reading.ok ? (
            <span className="text-ink-2">
              Read as <Time value={reading.utc} digits={6} />
            </span>
          ) : (
            "The offset is part of the time: UTC, Z, or such as +02:00."
          )
        }
      />
      {wall && (
        <ZoneQuestion
          wall={wall}
          onChoose={(utc) => onChange({ ...form, time: formatTime(utc, "utc", { digits: 6 }) ?? utc })}
        />
      )}
    </div>
  );
}

function NameField({ form, error, points, onChange }: TargetFieldsProps) {
  const list = points ?? [];
  const known = list.some((point) => point.name === form.name);
  if (list.length === 0) {
    return (
      <Field
        label="Name of the restore point"
        value={form.name}
        onChange={(name) => onChange({ ...form, name })}
        error={error}
        hint="No restore point is listed for this cluster; pg_create_restore_point() makes one."
      />
    );
  }
  return (
    <Select
      label="Restore point"
      value={form.name}
      onChange={(name) => onChange({ ...form, name })}
      error={error}
      options={[
        ...(known ? [] : [{ value: form.name, label: form.name === "" ? "Choose one" : form.name }]),
        ...list.map((point) => ({
          value: point.name,
          label: `${point.name} (${formatTime(point.time, "utc")})`,
        })),
      ]}
    />
  );
}

function ValueField(props: TargetFieldsProps & { wall?: Wall }) {
  const { form, error, onChange } = props;
  switch (form.kind) {
    case "latest":
      return (
        <p className="text-ink-2">
          Up to the last whole record that is stored. Nothing that reached the repository is left out.
        </p>
      );
    case "time":
      return <TimeField {...props} />;
    case "xid":
      return (
        <Field
          label="Transaction id"
          mono
          inputMode="numeric"
          placeholder="742"
          value={form.xid}
          onChange={(xid) => onChange({ ...form, xid })}
          error={error}
          hint="As pg_current_xact_id() or the timeline shows it, without its epoch."
        />
      );
    case "lsn":
      return (
        <Field
          label="LSN"
          mono
          placeholder="0/3000060"
          value={form.lsn}
          onChange={(lsn) => onChange({ ...form, lsn })}
          error={error}
        />
      );
    case "name":
      return <NameField {...props} />;
  }
}

const INCLUSIVE: Record<"time" | "xid" | "lsn", { with: string; without: string }> = {
  time: {
    with: "Hold everything up to this time, and what was committed at exactly this time.",
    without: "Hold everything before this time, and nothing that was committed at exactly this time.",
  },
  xid: {
    with: "Hold everything up to this transaction, and this transaction itself.",
    without: "Hold everything before this transaction and nothing of it.",
  },
  lsn: {
    with: "Hold everything up to the record at this LSN, and that record itself.",
    without: "Hold everything before the record at this LSN and nothing of it.",
  },
};

export function ExclusiveSwitch({ form, onChange }: Pick<TargetFieldsProps, "form" | "onChange">) {
  const id = useId();
  const possible = canExclude(form.kind);
  const on = possible && form.exclusive;
  const words = possible ? INCLUSIVE[form.kind as "time" | "xid" | "lsn"] : null;
  return (
    <div className="flex items-start gap-3">
      <button
        type="button"
        role="switch"
        aria-checked={on}
        aria-labelledby={`${id}-label`}
        aria-describedby={`${id}-hint`}
        disabled={!possible}
        onClick={() => onChange({ ...form, exclusive: !form.exclusive })}
        className={`mt-0.5 h-6 w-11 shrink-0 rounded-full border transition-colors disabled:opacity-50 ${
          on ? "border-accent bg-accent" : "border-line-strong bg-surface"
        }`}
      >
        <span
          className={`block size-4 rounded-full transition-transform ${on ? "translate-x-[1.45rem] bg-on-accent" : "translate-x-1 bg-line-strong"}`}
        />
      </button>
      <div>
        <span id={`${id}-label`} className="font-medium">
          Stop before it
        </span>
        <p id={`${id}-hint`} className="text-small text-ink-2">
          {words
            ? on
              ? words.without
              : words.with
            : "Only a time, a transaction or an LSN can be left out itself."}
        </p>
      </div>
    </div>
  );
}

export interface TargetFieldsProps {
  form: TargetForm;
  /** Why the value cannot be taken; shown once planning was tried. */
  error?: string;
  points?: readonly RestorePoint[];
  onChange: (form: TargetForm) => void;
}

/** Where recovery shall stop, in one of five ways. */
export function TargetFields(props: TargetFieldsProps & { wall?: Wall }) {
  const { form, onChange } = props;
  return (
    <div className="space-y-4">
      <Choice
        legend="Recover to"
        value={form.kind}
        onChange={(kind) => onChange({ ...form, kind })}
        options={KINDS}
        columns="sm:grid-cols-2 xl:grid-cols-5"
      />
      <ValueField {...props} />
      {form.kind !== "latest" && <ExclusiveSwitch form={form} onChange={onChange} />}
    </div>
  );
}
