import type { RepositorySummary } from "../api/bindings";

/** Where the key of a repository comes from on this machine. */
export const UNLOCKED_BY: Record<RepositorySummary["unlock"], string> = {
  keychain: "the OS keychain",
  passphrase: "its passphrase",
  demo: "the demo workspace's own key",
};
