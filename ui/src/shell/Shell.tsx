import { Outlet, useLocation, useNavigate, useRouterState } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { useAnswer, useWorkspace } from "../api/queries";
import { Problem } from "../elements/Problem";
import { useZone } from "../time/zone";
import { CheatSheet } from "./CheatSheet";
import { placeOf } from "./crumbs";
import { followDeepLinks } from "./deep-links";
import { IdentityBand } from "./IdentityBand";
import { JobsDrawer } from "./JobsDrawer";
import { MenuDrawer } from "./MenuDrawer";
import { Rail } from "./Rail";
import { StatusBar } from "./StatusBar";
import { TopBar } from "./TopBar";
import { useShortcuts } from "./useShortcuts";

type Open = "menu" | "jobs" | "keys" | null;

/** Moves the focus to the new screen's heading, so that keyboard and screen reader start there. */
function useFocusOnNavigation() {
  // The resolved location changes once the new screen stands, not when it is asked for.
  const path = useRouterState({ select: (state) => state.resolvedLocation?.pathname });
  const before = useRef<string | undefined>(undefined);
  useEffect(() => {
    const first = before.current === undefined;
    if (path === undefined || path === before.current) return;
    before.current = path;
    if (first) return;
    window.scrollTo(0, 0);
    const frame = requestAnimationFrame(() => {
      const heading = document.querySelector<HTMLElement>("main h1") ?? document.querySelector("main");
      (heading as HTMLElement | null)?.focus({ preventScroll: true });
    });
    return () => cancelAnimationFrame(frame);
  }, [path]);
}

/** The cluster that the window is about: named by the path, or by the job it shows. */
function useClusterInView(path: string) {
  const place = placeOf(path);
  const job = useAnswer("job_show", { job: place.job ?? "" }, { enabled: place.job !== null });
  const name = place.cluster ?? (place.job ? (job.data?.job.cluster ?? null) : null);
  return { place, name };
}

export function Shell() {
  const path = useLocation({ select: (location) => location.pathname });
  const navigate = useNavigate();
  const { toggle } = useZone();
  const workspace = useWorkspace();
  const [open, setOpen] = useState<Open>(null);
  const { place, name } = useClusterInView(path);
  const cluster = workspace.data?.clusters.find((each) => each.name === name);
  useFocusOnNavigation();

  // biome-ignore lint/correctness/useExhaustiveDependencies: any navigation closes what lies over the screen
  useEffect(() => setOpen(null), [path]);
  useEffect(() => followDeepLinks((to) => void navigate({ to })), [navigate]);

  const target = name ?? workspace.data?.clusters[0]?.name;
  const params = { cluster: target ?? "" };
  useShortcuts({
    "go-overview": () => void navigate({ to: "/overview" }),
    "go-jobs": () => void navigate({ to: "/jobs" }),
    "go-verify": () => void navigate({ to: "/verify" }),
    "go-settings": () => void navigate({ to: "/settings" }),
    ...(target && {
      "go-timeline": () => void navigate({ to: "/c/$cluster/timeline", params }),
      "go-restore": () => void navigate({ to: "/c/$cluster/restore/new", params }),
      "go-policies": () => void navigate({ to: "/c/$cluster/policies", params }),
    }),
    zone: toggle,
    "jobs-drawer": () => setOpen(open === "jobs" ? null : "jobs"),
    "cheat-sheet": () => setOpen("keys"),
  });

  return (
    <div className="grid min-h-dvh grid-cols-[minmax(0,1fr)] md:grid-cols-[15rem_minmax(0,1fr)]">
      <a
        href="#content"
        className="sr-only z-50 rounded-md bg-accent px-3 py-2 text-on-accent focus:not-sr-only focus:fixed focus:top-2 focus:left-2"
      >
        Skip to content
      </a>
      <aside aria-label="Navigation" className="no-print sticky top-0 h-dvh max-md:hidden">
        <Rail />
      </aside>
      <div className="flex min-h-dvh min-w-0 flex-col">
        <header className="no-print sticky top-0 z-20">
          <TopBar
            place={place}
            cluster={name}
            onMenu={() => setOpen("menu")}
            onKeys={() => setOpen("keys")}
          />
          {cluster && <IdentityBand cluster={cluster} />}
        </header>
        <main id="content" tabIndex={-1} className="min-w-0 flex-1">
          {workspace.error && !workspace.data && (
            <div className="mx-auto max-w-[84rem] px-4 pt-6 sm:px-6">
              <Problem
                error={workspace.error}
                title="The workspace could not be read"
                onRetry={() => workspace.refetch()}
              />
            </div>
          )}
          <Outlet />
        </main>
        <div className="bottom-0 z-20 sm:sticky">
          <StatusBar workspace={workspace.data} failed={workspace.isError} onJobs={() => setOpen("jobs")} />
        </div>
      </div>
      {open === "menu" && <MenuDrawer onClose={() => setOpen(null)} />}
      {open === "jobs" && <JobsDrawer workspace={workspace.data} onClose={() => setOpen(null)} />}
      {open === "keys" && <CheatSheet onClose={() => setOpen(null)} />}
    </div>
  );
}
