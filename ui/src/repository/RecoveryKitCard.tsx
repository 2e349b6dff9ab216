import { Printer } from "lucide-react";
import { type FormEvent, useState } from "react";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Field } from "../elements/Field";
import { Mono } from "../elements/Mono";
import { Notice } from "../elements/Notice";
import { Section } from "../elements/Page";
import { Problem } from "../elements/Problem";

/** Writes the page that, together with the store, is enough to restore on a machine that knows neither. */
export function RecoveryKitCard({ repository }: { repository: string }) {
  const [file, setFile] = useState("");
  const [tried, setTried] = useState(false);
  const write = useAction("recovery_kit");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setTried(true);
    if (file.trim() !== "") write.mutate({ repository, file: file.trim() });
  };
  return (
    <Section title="Recovery kit">
      <p className="mb-3 text-ink-2">
        One page with a recovery key of its own, as text and as a QR code, and how to use it. With it and
        access to the store, a machine that has never seen either can restore. Print it, put it away, and
        delete the file.
      </p>
      <form onSubmit={submit} noValidate aria-label="Recovery kit" className="space-y-4">
        <Field
          label="Write the page to this new file"
          mono
          placeholder="/media/usb/recovery-kit.html"
          value={file}
          onChange={setFile}
          error={tried && file.trim() === "" ? "Say where the page shall be written." : undefined}
          hint="A page for the browser; plain text when it ends in .txt."
        />
        {write.error && <Problem error={write.error} title="The kit was not written" />}
        <Button type="submit" icon={Printer} busy={write.isPending}>
          Write the kit
        </Button>
      </form>
      {write.data && (
        <div className="mt-4">
          <Notice status>
            <p>
              Written, and its key has been shown to open the repository:{" "}
              <Mono value={write.data.file} copy="path" />
            </p>
            <p className="mt-1">
              Open it in a browser and print it. Whoever finds it can read every backup: when it is lost,
              remove the key “{write.data.label}”.
            </p>
          </Notice>
        </div>
      )}
    </Section>
  );
}
