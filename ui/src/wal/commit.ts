import type { Commit } from "../api/bindings";

/** `transaction 742`, or `restore point “before-deploy”`, which has no transaction id of its own. */
export function commitName({ kind, name, xid }: Pick<Commit, "kind" | "name" | "xid">): string {
  return kind === "restore_point" ? `restore point “${name}”` : `transaction ${xid}`;
}
