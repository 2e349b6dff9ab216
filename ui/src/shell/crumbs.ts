/** Where the window is, read from its path alone. */
export interface Place {
  screen:
    | "overview"
    | "timeline"
    | "restore"
    | "policies"
    | "run"
    | "jobs"
    | "job"
    | "verify"
    | "settings"
    | "repository"
    | "add"
    | "demo"
    | "none";
  cluster: string | null;
  job: string | null;
}

function decoded(part: string | undefined): string {
  try {
    return decodeURIComponent(part ?? "");
  } catch {
    return part ?? "";
  }
}

function ofCluster(part: string | undefined): "restore" | "policies" | "timeline" {
  return part === "restore" || part === "policies" ? part : "timeline";
}

export function placeOf(path: string): Place {
  const [first, second, third] = path.split("/").filter(Boolean);
  const nowhere = { cluster: null, job: null };
  switch (first) {
    case undefined:
    case "overview":
      return { screen: "overview", ...nowhere };
    case "c":
      return { screen: ofCluster(third), cluster: decoded(second), job: null };
    case "restore":
      return { screen: "run", cluster: null, job: decoded(second) };
    case "jobs":
      return { screen: "jobs", ...nowhere };
    case "job":
      return { screen: "job", cluster: null, job: decoded(second) };
    case "demo":
      return { screen: "demo", cluster: null, job: decoded(second) };
    case "verify":
      return { screen: "verify", ...nowhere };
    case "settings":
      return { screen: "settings", ...nowhere };
    case "repository":
      return { screen: "repository", ...nowhere };
    case "clusters":
      return { screen: "add", ...nowhere };
    default:
      return { screen: "none", ...nowhere };
  }
}

export const SCREEN_NAMES: Record<Place["screen"], string> = {
  overview: "Overview",
  timeline: "Timeline",
  restore: "Restore",
  policies: "Policies",
  run: "Restore run",
  jobs: "Jobs",
  job: "Job",
  verify: "Verify",
  settings: "Settings",
  repository: "Repository",
  add: "Add a cluster",
  demo: "Demo",
  none: "Not found",
};

/** Enough of a job's id to tell it from its neighbours: version 7 ids begin with their time. */
export function shortId(id: string): string {
  return id.length > 12 ? `…${id.slice(-8)}` : id;
}
