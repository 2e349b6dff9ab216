import { useNavigate } from "@tanstack/react-router";
import { ShieldCheck } from "lucide-react";
import { type FormEvent, useEffect, useState } from "react";
import type { Depth } from "../api/bindings";
import { useAction } from "../api/queries";
import { UnlockFields, useUnlock } from "../clusters/UnlockFields";
import { Button } from "../elements/Button";
import { Choice, Field } from "../elements/Field";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { isInShell } from "../shell/shell-events";
import { followDrops } from "./drops";
import { LEVELS } from "./levels";

/** Verifies what lies on this machine and is known to nobody: a bundle, or a repository that was copied here. */
export function VerifyOffline() {
  const navigate = useNavigate();
  const [path, setPath] = useState("");
  const unlock = useUnlock();
  const [level, setLevel] = useState<Depth>("pages");
  const [tried, setTried] = useState(false);
  const start = useAction("verify_offline_start", ({ job }) => {
    unlock.forget();
    void navigate({ to: "/job/$job", params: { job } });
  });
  useEffect(() => followDrops(setPath), []);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (path.trim() === "" || !unlock.given) return;
    start.mutate({ path: path.trim(), ...unlock.request, level });
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
          hint={`${isInShell() ? "Or drop it on the window. " : ""}Nothing is written to it.`}
        />
        <UnlockFields unlock={unlock} tried={tried} />
        <Choice legend="How deep" value={level} onChange={setLevel} options={LEVELS} />
        {start.error && <Problem error={start.error} title="The verification was not started" />}
        <Button type="submit" look="primary" icon={ShieldCheck} busy={start.isPending}>
          Verify offline
        </Button>
      </form>
    </Section>
  );
}
