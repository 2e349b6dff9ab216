import { useState } from "react";
import type { KeySlot, NewSlotKey } from "../api/bindings";

type Kind = KeySlot["kind"];

/** What is to open a slot, as the fields hold it. */
export function useNewKey(kind: Kind) {
  const [passphrase, setPassphrase] = useState("");
  const [again, setAgain] = useState("");
  const [file, setFile] = useState("");
  const [text, setText] = useState("");
  const [tried, setTried] = useState(false);
  const problems = {
    passphrase: kind === "passphrase" && passphrase === "" ? "Choose a passphrase." : null,
    again: kind === "passphrase" && again !== passphrase ? "The two do not match." : null,
    file:
      kind === "recovery-key" && file.trim() === "" ? "Say where the recovery key shall be written." : null,
    text: kind === "public-key" && text.trim() === "" ? "Paste the public key." : null,
  };
  const keys: Record<Kind, NewSlotKey> = {
    passphrase: { kind: "passphrase", passphrase },
    "recovery-key": { kind: "recovery-key", file: file.trim() },
    "public-key": { kind: "public-key", text: text.trim() },
    keychain: { kind: "keychain" },
  };
  return {
    kind,
    ...{ passphrase, setPassphrase, again, setAgain, file, setFile, text, setText, tried },
    problems,
    /** The key, or null when something is missing; from then on that is shown. */
    take: (): NewSlotKey | null => {
      setTried(true);
      return Object.values(problems).some(Boolean) ? null : keys[kind];
    },
  };
}
