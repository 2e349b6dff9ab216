import { type FormEvent, useState } from "react";
import type { KeySlot } from "../api/bindings";
import { useAction } from "../api/queries";
import { Dialog, SubmitOrCancel } from "../elements/Dialog";
import { Choice, Field } from "../elements/Field";
import { Problem } from "../elements/Problem";
import { KeyFields } from "./KeyFields";
import { useNewKey } from "./useNewKey";

const OPTIONS: readonly { value: KeySlot["kind"]; label: string; hint: string }[] = [
  { value: "passphrase", label: "A passphrase", hint: "Opens it on any machine." },
  { value: "recovery-key", label: "A recovery key", hint: "Written to a file, to be printed and put away." },
  { value: "public-key", label: "A colleague's key pair", hint: "They open it with their own private key." },
  { value: "keychain", label: "This machine's keychain", hint: "So that it can work without asking." },
];

interface AddKeyProps {
  repository: string;
  keychain: boolean;
  onDone: (said: string) => void;
  onClose: () => void;
}

/** Adds a way in. */
export function AddKey({ repository, keychain, onDone, onClose }: AddKeyProps) {
  const [kind, setKind] = useState<KeySlot["kind"]>("passphrase");
  const [label, setLabel] = useState("");
  const key = useNewKey(kind);
  const add = useAction("keys_add", (slot) =>
    onDone(`“${slot.label}” was added, and has been shown to open the repository.`),
  );
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const taken = key.take();
    if (taken !== null) add.mutate({ repository, key: taken, label: label.trim() || null });
  };
  return (
    <Dialog title="Add a key" onClose={onClose}>
      <form onSubmit={submit} noValidate aria-label="Add a key" className="space-y-4">
        <Choice
          legend="What shall open the repository?"
          value={kind}
          onChange={setKind}
          options={OPTIONS.filter(({ value }) => keychain || value !== "keychain")}
        />
        <KeyFields of={key} />
        <Field
          label="Call it (optional)"
          value={label}
          onChange={setLabel}
          hint="So that whoever looks at the list knows whose it is."
        />
        {add.error && <Problem error={add.error} title="The key was not added" />}
        <SubmitOrCancel action="Add this key" busy={add.isPending} onClose={onClose} />
      </form>
    </Dialog>
  );
}
