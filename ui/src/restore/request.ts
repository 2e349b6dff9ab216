import type { RequestOf } from "../api/client";

export type PlanRequest = RequestOf<"restore_plan">;

/** A request for a plan, with everything that was not said at its safest. */
export function planRequest(
  asked: Pick<PlanRequest, "cluster" | "target" | "to"> & Partial<PlanRequest>,
): PlanRequest {
  return {
    exclusive: false,
    timeline: "latest",
    snapshot: null,
    accept_host_differences: false,
    ...asked,
  };
}
