import { type FormEvent, useState } from "react";
import type { ClusterCheck } from "../api/bindings";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Field } from "../elements/Field";
import { Problem } from "../elements/Problem";
import { hasPassword } from "./validity";

/** How a server is reached. The password lives only until the cluster is added. */
export interface Server {
  dsn: string;
  password: string | null;
}

interface ServerStepProps {
  known: Server | null;
  onChecked: (server: Server, check: ClusterCheck) => void;
}

export function ServerStep({ known, onChecked }: ServerStepProps) {
  const [dsn, setDsn] = useState(known?.dsn ?? "");
  const [password, setPassword] = useState(known?.password ?? "");
  const [tried, setTried] = useState(false);
  const check = useAction("cluster_check");
  const withPassword = hasPassword(dsn);

  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (dsn.trim() === "" || withPassword) return;
    const server = { dsn: dsn.trim(), password: password === "" ? null : password };
    check.mutate(server, { onSuccess: (found) => onChecked(server, found) });
  };

  return (
    <form onSubmit={submit} noValidate className="space-y-4" aria-label="Server">
      <Field
        label="Connection string"
        mono
        placeholder="host=db.example.org port=5432 user=holdfast dbname=postgres sslmode=verify-full"
        value={dsn}
        onChange={setDsn}
        hint="As psql takes it: key=value, or postgresql://user@host:port/database."
        error={
          withPassword
            ? "The password does not belong in the connection string: that is shown, copied and stored in plain text. Take it out and enter it below; it goes to the OS keychain."
            : tried && dsn.trim() === ""
              ? "Enter a connection string."
              : undefined
        }
      />
      <Field
        label="Password"
        type="password"
        value={password}
        onChange={setPassword}
        hint="Kept in the OS keychain once the cluster is added. It can be replaced later, never read. Leave it empty where a passfile, a certificate or trust is used."
      />
      {check.error && <Problem error={check.error} title="The server could not be looked at" />}
      <div className="flex flex-wrap items-center gap-3">
        <Button type="submit" look="primary" busy={check.isPending} disabled={withPassword}>
          Check this server
        </Button>
        <span className="text-small text-ink-3">
          It only looks: it connects, reads settings and disconnects.
        </span>
      </div>
    </form>
  );
}
