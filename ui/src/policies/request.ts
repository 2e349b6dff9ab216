import type { Policy } from "../api/bindings";
import type { RequestOf } from "../api/client";

/** So many lines of a plan are shown. */
const LINES = 50;

/** The plan of now, or for a time to come and another policy. */
export function planRequest(
  cluster: string,
  at: string | null = null,
  policy: Policy | null = null,
): RequestOf<"retention_plan"> {
  return { cluster, at, policy, limit: LINES };
}
