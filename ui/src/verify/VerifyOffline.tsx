import { useNavigate } from "@tanstack/react-router";
import { ShieldCheck } from "lucide-react";
import { type FormEvent, useEffect, useState } from "react";
import type { Depth } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Choice, Field } from "../elements/Field";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { followDrops, hearsDrops } from "./drops";
import { LEVELS } from "./levels";

/** Verifies what lies on this machine and is known to nobody: a bundle, or a repository that was copied here. */
export function VerifyOffline() {
  const navigate = useNavigate();
  const [path, setPath] = useState("");
  const [way, setWay] = useState<"passphrase" | "recovery">("passphrase");
  const [secret, setSecret] = useState("");
  const [level, setLevel] = useState<Depth>("pages");
  const [tried, setTried] = useState(false);
  const start = useAction("verify_offline_start", ({ job }) => {
    setSecret("");
    void navigate({ to: "/job/$job", params: { job } });
  });
  useEffect(() => followDrops(setPath), []);
  const word = way === "passphrase" ? "Passphrase" : "Recovery key";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (path.trim() === "" || secret === "") return;
    start.mutate({
      path: path.trim(),
      passphrase: way === "passphrase" ? secret : null,
      recovery_key: way === "recovery" ? secret.trim() : null,
      level,
    });
  };
  return (
    <Section title="A bundle or a copied repository" aside="needs no network, no server, no catalog">
      <form onSubmit={submit} noValidate className="space-y-4" aria-label="Verify a bundle">
        <Field
          label="Folder or file"
          mono
          placeholder="/media/disk/orders.tar"
          value={path}
          onChange={setPath}
          error={tried && path.trim() === "" ? "Name a folder or a file." : undefined}
          hint={`${hearsDrops() ? "Or drop it on the window. " : ""}Nothing is written to it.`}
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
        <Choice legend="How deep" value={level} onChange={setLevel} options={LEVELS} />
        {start.error && <Problem error={start.error} title="The verification was not started" />}
        <Button type="submit" look="primary" icon={ShieldCheck} busy={start.isPending}>
          Verify offline
        </Button>
      </form>
    </Section>
  );
}
