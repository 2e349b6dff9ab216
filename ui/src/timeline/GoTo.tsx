import { CornerDownLeft } from "lucide-react";
import { type FormEvent, useId, useState } from "react";
import type { RestorePoint } from "../api/bindings";
import { Button } from "../elements/Button";
import { inputClass } from "../elements/Field";
import { readWanted, type Wanted } from "./goto";

interface GoToProps {
  points: readonly RestorePoint[];
  onGo: (wanted: Exclude<Wanted, { kind: "none" }>) => void;
}

/** Puts the cursor where somebody says, in any of the four forms of a target. */
export function GoTo({ points, onGo }: GoToProps) {
  const id = useId();
  const [text, setText] = useState("");
  const [why, setWhy] = useState<string | null>(null);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const wanted = readWanted(text, points);
    if (wanted.kind === "none") {
      setWhy(wanted.why);
      return;
    }
    setWhy(null);
    onGo(wanted);
  };
  return (
    <form onSubmit={submit} noValidate aria-label="Go to" className="min-w-0 flex-1 basis-64">
      <div className="flex items-center gap-1.5">
        <label htmlFor={id} className="shrink-0 text-small text-ink-2">
          Go to
        </label>
        <input
          id={id}
          value={text}
          onChange={(event) => {
            setText(event.target.value);
            setWhy(null);
          }}
          placeholder="time, LSN, transaction, name"
          autoComplete="off"
          spellCheck={false}
          aria-invalid={why !== null || undefined}
          aria-describedby={why === null ? undefined : `${id}-why`}
          className={`${inputClass} !min-h-7 !py-0.5 text-small`}
        />
        <Button size="small" type="submit" aria-label="Go">
          <CornerDownLeft aria-hidden className="size-4" />
        </Button>
      </div>
      {why && (
        <p id={`${id}-why`} role="alert" className="mt-1 text-small text-broken">
          {why}
        </p>
      )}
    </form>
  );
}
