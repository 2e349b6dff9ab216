import { type FormEvent, useState } from "react";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Checkbox, Choice, Field } from "../elements/Field";
import { Problem } from "../elements/Problem";
import type { Chosen } from "./RepositoryStep";
import { urlProblem } from "./validity";

interface AttachRepositoryProps {
  keychain: boolean;
  storeMessage: string;
  onAttached: (chosen: Chosen) => void;
}

export function AttachRepository({ keychain, storeMessage, onAttached }: AttachRepositoryProps) {
  const [url, setUrl] = useState("");
  const [way, setWay] = useState<"passphrase" | "recovery">("passphrase");
  const [secret, setSecret] = useState("");
  const [store, setStore] = useState(keychain);
  const [tried, setTried] = useState(false);
  const attach = useAction("repository_attach", ({ id, url: attached }) => {
    setSecret("");
    onAttached({ id, url: attached });
  });

  const urlWrong = urlProblem(url);
  const word = way === "passphrase" ? "Passphrase" : "Recovery key";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (urlWrong !== null || secret === "") return;
    attach.mutate({
      url: url.trim(),
      passphrase: way === "passphrase" ? secret : null,
      recovery_key: way === "recovery" ? secret.trim() : null,
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
      <Choice
        legend="Unlock it with"
        value={way}
        onChange={(next) => {
          setWay(next);
          setSecret("");
        }}
        options={[
          { value: "passphrase", label: "Its passphrase" },
          { value: "recovery", label: "Its recovery key" },
        ]}
        columns="sm:grid-cols-2"
      />
      <Field
        label={word}
        type="password"
        value={secret}
        onChange={setSecret}
        error={tried && secret === "" ? `Enter the ${word.toLowerCase()}.` : undefined}
      />
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
