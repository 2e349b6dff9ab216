import { Activity, KeyRound, ShieldAlert } from "lucide-react";
import type { WorkspaceStatus } from "../api/bindings";
import { useNow } from "../time/clock";
import { formatTime } from "../time/format";

function Clock() {
  const now = useNow();
  const utc = formatTime(new Date(now).toISOString(), "utc", { digits: 0 }) ?? "";
  return (
    // A clock that were announced every second would drown everything else.
    <span className="ml-auto whitespace-nowrap" aria-live="off">
      <span className="sr-only">Clock: </span>
      <span className="max-sm:hidden">{utc}</span>
      <span className="sm:hidden">{utc.slice(11)}</span>
    </span>
  );
}

interface StatusBarProps {
  workspace: WorkspaceStatus | undefined;
  failed: boolean;
  onJobs: () => void;
}

export function StatusBar({ workspace, failed, onJobs }: StatusBarProps) {
  const running = workspace?.running_jobs.length;
  const store = workspace?.secret_store;
  const StoreIcon = store?.kind === "unavailable" ? ShieldAlert : KeyRound;
  return (
    <footer className="no-print flex min-h-8 flex-wrap items-center gap-x-4 gap-y-0.5 border-t border-line bg-surface px-3 text-small text-ink-2 sm:px-4">
      {failed ? (
        <span className="inline-flex items-center gap-1.5 font-semibold text-broken">
          <ShieldAlert aria-hidden className="size-3.5" />
          Engine does not answer
        </span>
      ) : (
        <span
          className={`inline-flex min-w-0 items-center gap-1.5 ${store?.kind === "unavailable" ? "font-semibold text-degraded" : ""}`}
        >
          <StoreIcon aria-hidden className="size-3.5 shrink-0" />
          {store ? (store.kind === "keychain" ? "OS keychain" : "No OS keychain") : "Secret store unknown"}
        </span>
      )}
      <button
        type="button"
        onClick={onJobs}
        className="-mx-1 inline-flex min-h-7 items-center gap-1.5 rounded px-1 hover:bg-sunken hover:text-ink"
      >
        <Activity aria-hidden className={`size-3.5 ${running ? "breathing text-accent" : ""}`} />
        {running === undefined
          ? "Jobs unknown"
          : running === 0
            ? "No job running"
            : `${running} ${running === 1 ? "job" : "jobs"} running`}
      </button>
      <Clock />
    </footer>
  );
}
