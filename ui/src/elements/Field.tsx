import { type InputHTMLAttributes, type ReactNode, useId } from "react";

interface LabelledProps {
  label: string;
  hint?: ReactNode;
  /** Why the value cannot be taken; null while it can. */
  error?: ReactNode;
}

/** What ties a control to its label, its explanation and its refusal. */
interface Ties {
  id: string;
  "aria-invalid"?: true | undefined;
  "aria-describedby"?: string | undefined;
}

/** A control beneath its label, with its explanation and its refusal beneath it. */
function Labelled({
  label,
  hint,
  error,
  className = "",
  control,
}: LabelledProps & { className?: string | undefined; control: (ties: Ties) => ReactNode }) {
  const id = useId();
  const described = [hint ? `${id}-hint` : "", error ? `${id}-error` : ""].filter(Boolean).join(" ");
  return (
    <div className={`space-y-1.5 ${className}`}>
      <label htmlFor={id} className="block font-medium">
        {label}
      </label>
      {control({ id, "aria-invalid": error ? true : undefined, "aria-describedby": described || undefined })}
      {hint && (
        <div id={`${id}-hint`} className="text-small text-ink-3">
          {hint}
        </div>
      )}
      {error && (
        <div id={`${id}-error`} role="alert" className="text-small text-broken">
          {error}
        </div>
      )}
    </div>
  );
}

export const inputClass =
  "w-full min-h-9 rounded-md border border-line-strong bg-surface px-3 py-1.5 text-ink placeholder:text-ink-3 aria-invalid:border-broken disabled:opacity-60";
const MONO = "font-mono text-[0.93em]";

/** What is typed here is names and paths: nothing is to be corrected or remembered. */
const AS_TYPED = { autoComplete: "off", autoCapitalize: "off", autoCorrect: "off", spellCheck: false };

interface FieldProps extends LabelledProps, Omit<InputHTMLAttributes<HTMLInputElement>, "id" | "onChange"> {
  value: string;
  onChange: (value: string) => void;
  mono?: boolean;
}

/** A labelled text field. */
export function Field({ label, hint, error, mono, className, onChange, ...input }: FieldProps) {
  return (
    <Labelled
      {...{ label, hint, error, className }}
      control={(ties) => (
        <input
          {...input}
          {...AS_TYPED}
          {...ties}
          onChange={(event) => onChange(event.target.value)}
          className={`${inputClass} ${mono ? MONO : ""}`}
        />
      )}
    />
  );
}

interface TextAreaProps extends LabelledProps {
  value: string;
  onChange: (value: string) => void;
  rows: number;
}

/** A labelled field of several lines, for what a machine reads. */
export function TextArea({ label, hint, error, value, onChange, rows }: TextAreaProps) {
  return (
    <Labelled
      {...{ label, hint, error }}
      control={(ties) => (
        <textarea
          {...AS_TYPED}
          {...ties}
          value={value}
          rows={rows}
          onChange={(event) => onChange(event.target.value)}
          className={`${inputClass} ${MONO}`}
        />
      )}
    />
  );
}

interface SelectProps extends LabelledProps {
  value: string;
  onChange: (value: string) => void;
  options: readonly { value: string; label: string }[];
}

/** One of a list, labelled. */
export function Select({ label, hint, error, value, onChange, options }: SelectProps) {
  return (
    <Labelled
      {...{ label, hint, error }}
      control={(ties) => (
        <select
          {...ties}
          value={value}
          onChange={(event) => onChange(event.target.value)}
          className={inputClass}
        >
          {options.map((option) => (
            <option key={option.value} value={option.value}>
              {option.label}
            </option>
          ))}
        </select>
      )}
    />
  );
}

interface CheckboxProps {
  label: string;
  hint?: ReactNode;
  checked: boolean;
  onChange: (checked: boolean) => void;
  disabled?: boolean;
}

export function Checkbox({ label, hint, checked, onChange, disabled }: CheckboxProps) {
  const id = useId();
  return (
    <div className="grid grid-cols-[auto_1fr] gap-x-2.5">
      <input
        id={id}
        type="checkbox"
        checked={checked}
        disabled={disabled}
        onChange={(event) => onChange(event.target.checked)}
        aria-describedby={hint ? `${id}-hint` : undefined}
        className="mt-[0.2em] size-4 accent-accent"
      />
      <label htmlFor={id} className="font-medium">
        {label}
      </label>
      {hint && (
        <div id={`${id}-hint`} className="col-start-2 text-small text-ink-3">
          {hint}
        </div>
      )}
    </div>
  );
}

interface ChoiceOption<T extends string> {
  value: T;
  label: string;
  hint?: ReactNode;
}

interface ChoiceProps<T extends string> {
  legend: string;
  value: T;
  onChange: (value: T) => void;
  options: readonly ChoiceOption<T>[];
  columns?: string;
}

/** One of a few, each explained. */
export function Choice<T extends string>({ legend, value, onChange, options, columns = "" }: ChoiceProps<T>) {
  const name = useId();
  return (
    <fieldset className="space-y-1.5">
      <legend className="mb-1.5 font-medium">{legend}</legend>
      <div className={`grid gap-2 ${columns}`}>
        {options.map((option) => (
          <label
            key={option.value}
            className={`flex cursor-pointer items-start gap-2.5 rounded-md border px-3 py-2 transition-colors ${
              value === option.value
                ? "border-accent bg-accent-soft"
                : "border-line bg-surface hover:border-line-strong"
            }`}
          >
            <input
              type="radio"
              name={name}
              value={option.value}
              checked={value === option.value}
              onChange={() => onChange(option.value)}
              className="mt-[0.2em] size-4 shrink-0 accent-accent"
            />
            <span className="min-w-0">
              <span className="block font-medium">{option.label}</span>
              {option.hint && <span className="block text-small text-ink-2">{option.hint}</span>}
            </span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
