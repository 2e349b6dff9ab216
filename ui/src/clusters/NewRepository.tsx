import { type FormEvent, useState } from "react";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Checkbox, Field } from "../elements/Field";
import { Problem } from "../elements/Problem";
import type { Chosen } from "./RepositoryStep";
import { urlProblem } from "./validity";

interface NewRepositoryProps {
  keychain: boolean;
  storeMessage: string;
  onCreated: (chosen: Chosen) => void;
}

export function NewRepository({ keychain, storeMessage, onCreated }: NewRepositoryProps) {
  const [url, setUrl] = useState("");
  const [passphrase, setPassphrase] = useState("");
  const [again, setAgain] = useState("");
  const [store, setStore] = useState(keychain);
  const [recovery, setRecovery] = useState("");
  const [tried, setTried] = useState(false);
  const create = useAction("repository_create", ({ id, url: created }) => {
    setPassphrase("");
    setAgain("");
    onCreated({ id, url: created });
  });

  const problems = {
    url: urlProblem(url),
    passphrase: passphrase === "" ? "Choose a passphrase." : null,
    again: again === passphrase ? null : "The two do not match.",
    recovery: recovery.trim() === "" ? "Say where the recovery key shall be written." : null,
  };
  const shown = (problem: string | null) => (tried ? (problem ?? undefined) : undefined);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (Object.values(problems).some(Boolean)) return;
    create.mutate({
      url: url.trim(),
      passphrase,
      keychain: store,
      recovery_key_file: recovery.trim(),
    });
  };

  return (
    <form onSubmit={submit} noValidate className="space-y-4" aria-label="New repository">
      <Field
        label="Folder or URL"
        mono
        placeholder="/srv/backups or s3://bucket/prefix"
        value={url}
        onChange={setUrl}
        error={shown(problems.url)}
        hint="A folder of this machine, or s3://, gs://, az://. Credentials of a bucket are read as its provider's own tools read them, never from the URL."
      />
      <div className="grid gap-4 sm:grid-cols-2">
        <Field
          label="Passphrase"
          type="password"
          value={passphrase}
          onChange={setPassphrase}
          error={shown(problems.passphrase)}
          hint="Everything is encrypted before it leaves this machine."
        />
        <Field
          label="Passphrase again"
          type="password"
          value={again}
          onChange={setAgain}
          error={again !== "" || tried ? (problems.again ?? undefined) : undefined}
        />
      </div>
      <Checkbox
        label="Keep a key in the OS keychain"
        checked={store}
        onChange={setStore}
        disabled={!keychain}
        hint={
          keychain
            ? "So that this machine can back up without asking. The passphrase itself is not stored."
            : `Not possible here: ${storeMessage}. Without it the passphrase is asked for again after every start.`
        }
      />
      <Field
        label="Write the recovery key to this new file"
        mono
        placeholder="/media/usb/holdfast-recovery-key.txt"
        value={recovery}
        onChange={setRecovery}
        error={shown(problems.recovery)}
        hint="When this machine is lost and the passphrase forgotten, the recovery key is the only way left into the backups; nobody else has a copy. It is written once, to this file, and never shown here. Move it off this machine or print it."
      />
      {create.error && <Problem error={create.error} title="The repository was not created" />}
      <Button type="submit" look="primary" busy={create.isPending}>
        Create repository
      </Button>
    </form>
  );
}
