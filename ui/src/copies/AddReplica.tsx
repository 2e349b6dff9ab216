import { useNavigate } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { useAction } from "../api/queries";
import { urlProblem } from "../clusters/validity";
import { Dialog, SubmitOrCancel } from "../elements/Dialog";
import { Field } from "../elements/Field";
import { Problem } from "../elements/Problem";

const MIB = 1024 * 1024;

/** Bytes a second of a number of MiB; null for no limit, undefined when it is no number. */
export function rateOf(text: string): number | null | undefined {
  if (text.trim() === "") return null;
  const bytes = Math.round(Number(text.trim().replace(",", ".")) * MIB);
  return Number.isSafeInteger(bytes) && bytes > 0 ? bytes : undefined;
}

/** Asks where a replica shall be, and begins to make it. */
export function AddReplica({ cluster, onClose }: { cluster: string; onClose: () => void }) {
  const navigate = useNavigate();
  const [url, setUrl] = useState("");
  const [rate, setRate] = useState("");
  const [tried, setTried] = useState(false);
  const start = useAction(
    "replicate_start",
    ({ job }) => void navigate({ to: "/job/$job", params: { job } }),
  );
  const limit = rateOf(rate);
  const problem = urlProblem(url);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (problem !== null || limit === undefined) return;
    start.mutate({ cluster, to: url.trim(), bytes_per_second: limit });
  };
  return (
    <Dialog title="Add a replica" onClose={onClose}>
      <form onSubmit={submit} noValidate aria-label="Add a replica" className="space-y-4">
        <Field
          label="Folder or URL"
          mono
          placeholder="s3://backups-us/orders"
          value={url}
          onChange={setUrl}
          error={tried ? (problem ?? undefined) : undefined}
          hint="Empty, and best in another region or at another provider. Credentials of a bucket are read as its provider's own tools read them."
        />
        <Field
          label="Send at most, in MiB a second (optional)"
          value={rate}
          onChange={setRate}
          error={limit === undefined ? "Write a number, or nothing for no limit." : undefined}
        />
        <p className="text-ink-2">
          The whole repository is copied, and each object read back. It can be cancelled, and goes on where it
          was.
        </p>
        {start.error && <Problem error={start.error} title="The replication was not started" />}
        <SubmitOrCancel action="Make this replica" busy={start.isPending} onClose={onClose} />
      </form>
    </Dialog>
  );
}
