import type { FormEvent } from "react";
import type { KeySlot } from "../api/bindings";
import { useAction } from "../api/queries";
import { Dialog, SubmitOrCancel } from "../elements/Dialog";
import { Problem } from "../elements/Problem";
import { KeyFields } from "./KeyFields";
import { useNewKey } from "./useNewKey";

interface RotateKeyProps {
  repository: string;
  slot: KeySlot;
  onDone: (said: string) => void;
  onClose: () => void;
}

/** Gives a slot another secret of the same kind. */
export function RotateKey({ repository, slot, onDone, onClose }: RotateKeyProps) {
  const key = useNewKey(slot.kind);
  const rotate = useAction("keys_rotate", ({ means }) => onDone(`The secret was replaced. ${means}`));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const taken = key.take();
    if (taken !== null) rotate.mutate({ repository, slot: slot.id, key: taken });
  };
  return (
    <Dialog title={`Replace the secret of “${slot.label}”`} onClose={onClose}>
      <form onSubmit={submit} noValidate aria-label="Replace a secret" className="space-y-4">
        <p className="text-ink-2">
          The new one is shown to open the repository before the old one is taken away. It takes seconds,
          whatever is stored.
        </p>
        <KeyFields of={key} />
        {rotate.error && <Problem error={rotate.error} title="The secret was not replaced" />}
        <SubmitOrCancel action="Replace the secret" busy={rotate.isPending} onClose={onClose} />
      </form>
    </Dialog>
  );
}
