import { KeyRound, RefreshCw, Trash2 } from "lucide-react";
import { useState } from "react";
import type { KeySlot, SecretStoreKind } from "../api/bindings";
import { useAnswer } from "../api/queries";
import { Button } from "../elements/Button";
import { Entries } from "../elements/Entries";
import { Mono } from "../elements/Mono";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { Time } from "../time/Time";
import { AddKey } from "./AddKey";
import { KINDS } from "./kinds";
import { RemoveKey } from "./RemoveKey";
import { RotateKey } from "./RotateKey";

type Doing = { what: "add" } | { what: "remove" | "rotate"; slot: KeySlot };

interface KeySlotsProps {
  repository: string;
  secretStore: SecretStoreKind;
  /** Of the demo workspace, which opens it with a passphrase of its own. */
  demo: boolean;
}

/** The ways into a repository: adding one, taking one away, giving one another secret. */
export function KeySlots({ repository, secretStore, demo }: KeySlotsProps) {
  const slots = useAnswer("keys_list", { repository });
  const [doing, setDoing] = useState<Doing | null>(null);
  const [means, setMeans] = useState<string | null>(null);
  const done = (said: string | null) => {
    setMeans(said);
    setDoing(null);
  };
  const close = () => setDoing(null);
  return (
    <Section title="Keys">
      <p className="mb-3 text-ink-2">
        Each of these opens the repository by itself. Secrets are never shown.
      </p>
      {slots.isPending && <Waiting what="the keys" />}
      {slots.error && (
        <Problem
          error={slots.error}
          title="The keys could not be read"
          onRetry={() => slots.refetch()}
          live={false}
        />
      )}
      {slots.data && (
        <Entries
          label="Key slots"
          empty="None."
          entries={slots.data.map((slot) => ({
            key: slot.id,
            main: (
              <>
                <span className="font-medium">{slot.label}</span>
                {slot.label !== KINDS[slot.kind] && (
                  <span className="text-ink-2"> · {KINDS[slot.kind].toLowerCase()}</span>
                )}
              </>
            ),
            more: (
              <>
                {slot.opened && "has opened it now · "}made <Time value={slot.created_at} digits={0} /> ·{" "}
                <Mono value={slot.id} />
              </>
            ),
            actions: !(demo && slot.kind === "passphrase") && (
              <>
                <Button
                  size="small"
                  icon={RefreshCw}
                  aria-label={`Replace the secret of ${slot.label}…`}
                  onClick={() => setDoing({ what: "rotate", slot })}
                >
                  Replace…
                </Button>
                <Button
                  size="small"
                  icon={Trash2}
                  aria-label={`Remove ${slot.label}…`}
                  onClick={() => setDoing({ what: "remove", slot })}
                >
                  Remove…
                </Button>
              </>
            ),
          }))}
        />
      )}
      {means && (
        <p role="status" className="mt-3 text-ink-2">
          {means}
        </p>
      )}
      <div className="mt-4">
        <Button icon={KeyRound} onClick={() => setDoing({ what: "add" })}>
          Add a key…
        </Button>
      </div>
      {doing?.what === "add" && (
        <AddKey repository={repository} keychain={secretStore === "keychain"} onDone={done} onClose={close} />
      )}
      {doing?.what === "rotate" && (
        <RotateKey repository={repository} slot={doing.slot} onDone={done} onClose={close} />
      )}
      {doing?.what === "remove" && slots.data && (
        <RemoveKey
          repository={repository}
          slot={doing.slot}
          slots={slots.data}
          onDone={done}
          onClose={close}
        />
      )}
    </Section>
  );
}
