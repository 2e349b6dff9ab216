import type { KeySlot } from "../api/bindings";
import { useAction } from "../api/queries";
import { Confirm } from "../elements/Dialog";
import { Notice } from "../elements/Notice";
import { KINDS, PORTABLE } from "./kinds";

interface RemoveKeyProps {
  repository: string;
  slot: KeySlot;
  /** All of them, this one too. */
  slots: readonly KeySlot[];
  onDone: (said: string) => void;
  onClose: () => void;
}

/** Takes a way in away, after saying what is left. */
export function RemoveKey({ repository, slot, slots, onDone, onClose }: RemoveKeyProps) {
  const remove = useAction("keys_remove", ({ means }) => onDone(`“${slot.label}” was removed. ${means}`));
  const left = slots.filter(({ id }) => id !== slot.id);
  const portable = left.some(({ kind }) => PORTABLE.includes(kind));
  const lastPortable = !portable && PORTABLE.includes(slot.kind) && left.length > 0;
  const guarded = lastPortable || slot.opened;
  return (
    <Confirm
      title={`Remove “${slot.label}”?`}
      action="Remove this key"
      look="danger"
      busy={remove.isPending}
      error={remove.error}
      {...(guarded ? { typed: { text: slot.label, label: `Type ${slot.label} to go on` } } : {})}
      onConfirm={() => remove.mutate({ repository, slot: slot.id, force: lastPortable })}
      onClose={onClose}
    >
      <p>
        {left.length === 0
          ? "It is the only one: the repository could never be opened again, so that will be refused."
          : `What is left: ${left.map(({ label, kind }) => `${label} (${KINDS[kind].toLowerCase()})`).join(", ")}.`}
      </p>
      {lastPortable && (
        <Notice>
          None of these opens it without a certain device or a certain person: when those are lost, every
          backup is. Better add a passphrase or a recovery key first.
        </Notice>
      )}
      {slot.opened && (
        <Notice>
          This machine has opened the repository with it. After the next start it can only do so with another
          one: until then nothing is backed up or archived from here.
        </Notice>
      )}
      <p>
        Whoever has opened the repository with it may have kept a copy of what it opens. Replicas let it in
        until they are brought up to date; bundles, and replicas that were forgotten, always will.
      </p>
    </Confirm>
  );
}
