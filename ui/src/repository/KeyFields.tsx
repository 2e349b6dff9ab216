import { Field, TextArea } from "../elements/Field";
import type { useNewKey } from "./useNewKey";

/** Asks for what is to open a slot. */
export function KeyFields({ of }: { of: ReturnType<typeof useNewKey> }) {
  const shown = (problem: string | null) => (of.tried ? (problem ?? undefined) : undefined);
  switch (of.kind) {
    case "passphrase":
      return (
        <div className="grid gap-4 sm:grid-cols-2">
          <Field
            label="New passphrase"
            type="password"
            value={of.passphrase}
            onChange={of.setPassphrase}
            error={shown(of.problems.passphrase)}
          />
          <Field
            label="New passphrase again"
            type="password"
            value={of.again}
            onChange={of.setAgain}
            error={of.again !== "" ? (of.problems.again ?? undefined) : shown(of.problems.again)}
          />
        </div>
      );
    case "recovery-key":
      return (
        <Field
          label="Write the recovery key to this new file"
          mono
          placeholder="/media/usb/holdfast-recovery-key.txt"
          value={of.file}
          onChange={of.setFile}
          error={shown(of.problems.file)}
          hint="It is written once, to this file, and never shown here. Move it off this machine or print it."
        />
      );
    case "public-key":
      return (
        <TextArea
          label="Their public key"
          rows={2}
          value={of.text}
          onChange={of.setText}
          error={shown(of.problems.text)}
          hint="One line that begins with holdfast-public-key. They make it with holdfast keys generate and keep the private half."
        />
      );
    case "keychain":
      return (
        <p className="text-ink-2">
          A fresh key is made and kept in this machine's keychain. Nobody has to remember it. It takes the
          place of the one that was kept here for this repository before: a slot of that one opens nothing any
          more, and is best removed.
        </p>
      );
  }
}
