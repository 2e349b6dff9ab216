import type { GapCause } from "../api/bindings";

/** Why WAL is missing, in a word or two; the gap's own explanation says it as a sentence. */
export const GAP_CAUSES: Record<GapCause, string> = {
  slot_lost: "Slot lost",
  slot_recreated: "Slot recreated",
  slot_dropped: "Slot dropped",
  wal_removed: "WAL removed",
  upgrade: "Upgrade",
  re_init: "New server",
  foreign_stream: "Foreign stream",
  other: "Not recorded",
};
