import { useNavigate } from "@tanstack/react-router";
import { PackageOpen } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Field } from "../elements/Field";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { parseTime, timeProblem } from "../time/parse";

/** Takes one snapshot with its WAL along, as one file or folder. */
export function MakeBundle({ cluster }: { cluster: string }) {
  const navigate = useNavigate();
  const [to, setTo] = useState("");
  const [through, setThrough] = useState("");
  const [tried, setTried] = useState(false);
  const start = useAction("bundle_start", ({ job }) => void navigate({ to: "/job/$job", params: { job } }));
  const time = parseTime(through);
  const wrongTime = through.trim() === "" ? null : timeProblem(through);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (to.trim() === "" || wrongTime !== null) return;
    start.mutate({ cluster, snapshot: null, through: time.ok ? time.utc : null, to: to.trim() });
  };
  return (
    <Section title="Bundle" aside="to take along">
      <p className="mb-3 text-ink-2">
        The newest snapshot with its WAL, encrypted, in one file or folder. It is verified and restored from
        without network, server or catalog, with the keys of the repository.
      </p>
      <form onSubmit={submit} noValidate aria-label="Bundle" className="space-y-4">
        <div className="grid gap-4 sm:grid-cols-2">
          <Field
            label="Write it to"
            mono
            placeholder="/media/disk/orders.tar"
            value={to}
            onChange={setTo}
            error={tried && to.trim() === "" ? "Say where it shall be written." : undefined}
            hint="A path that does not exist: one file when it ends in .tar, else a folder."
          />
          <Field
            label="Up to this time (optional)"
            placeholder="2026-05-04 14:31:58Z"
            value={through}
            onChange={setThrough}
            error={wrongTime ?? undefined}
            hint="The last moment that can be restored to. All WAL that there is without it."
          />
        </div>
        {start.error && <Problem error={start.error} title="The bundle was not started" />}
        <Button type="submit" icon={PackageOpen} busy={start.isPending}>
          Make a bundle
        </Button>
      </form>
    </Section>
  );
}
