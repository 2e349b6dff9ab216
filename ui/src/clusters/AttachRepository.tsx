import { type FormEvent, useState } from "react";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Checkbox, Field } from "../elements/Field";
import { Problem } from "../elements/Problem";
import type { Chosen } from "./RepositoryStep";
import { UnlockFields, useUnlock } from "./UnlockFields";
import { urlProblem } from "./validity";

interface AttachRepositoryProps {
  keychain: boolean;
  storeMessage: string;
  onAttached: (chosen: Chosen) => void;
}

export function AttachRepository({ keychain, storeMessage, onAttached }: AttachRepositoryProps) {
  const [url, setUrl] = useState("");
  const unlock = useUnlock();
  const [store, setStore] = useState(keychain);
  const [tried, setTried] = useState(false);
  const attach = useAction("repository_attach", ({ id, url: attached }) => {
    unlock.forget();
    onAttached({ id, url: attached });
  });

  const urlWrong = urlProblem(url);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (urlWrong !== null || !unlock.given) return;
    attach.mutate({
      url: url.trim(),
      ...unlock.request,
      keychain: store,
    });
  };

  return (
    <form onSubmit={submit} noValidate className="space-y-4" aria-label="Attach a repository">
      <Field
        label="Folder or URL"
        mono
        placeholder="/srv/backups or s3://bucket/prefix"
        value={url}
        onChange={setUrl}
        error={tried ? (urlWrong ?? undefined) : undefined}
      />
      <UnlockFields unlock={unlock} tried={tried} />
      <Checkbox
        label="Keep a key in the OS keychain"
        checked={store}
        onChange={setStore}
        disabled={!keychain}
        hint={keychain ? "So that this machine does not ask again." : `Not possible here: ${storeMessage}.`}
      />
      {attach.error && <Problem error={attach.error} title="The repository was not attached" />}
      <Button type="submit" look="primary" busy={attach.isPending}>
        Attach repository
      </Button>
    </form>
  );
}
