import type { KeySlot } from "../api/bindings";

type Kind = KeySlot["kind"];

/** What opens a slot, as it is called. */
export const KINDS: Record<Kind, string> = {
  passphrase: "Passphrase",
  "recovery-key": "Recovery key",
  keychain: "Keychain of a device",
  "public-key": "Key pair of a person",
};

/** What opens the repository on a machine that has never seen it. */
export const PORTABLE: readonly Kind[] = ["passphrase", "recovery-key"];
