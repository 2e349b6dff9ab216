import { Link } from "@tanstack/react-router";
import {
  Anchor,
  ChartNoAxesGantt,
  History,
  LayoutDashboard,
  ListTree,
  Plus,
  Scale,
  Settings,
  ShieldCheck,
  X,
} from "lucide-react";
import type { ClusterOverview, ClusterSummary } from "../api/bindings";
import { useAnswer, useWorkspace } from "../api/queries";
import { lookOf } from "../elements/StateBadge";

const item =
  "flex min-h-9 items-center gap-2.5 rounded-md px-2.5 py-1.5 text-rail-ink-2 transition-colors hover:bg-rail-2 hover:text-rail-ink";
const active = { className: "bg-rail-2 !text-rail-ink font-medium", "aria-current": "page" as const };

function ClusterLinks({ cluster, overview }: { cluster: ClusterSummary; overview?: ClusterOverview }) {
  const look = lookOf(overview?.state ?? "unknown");
  const params = { cluster: cluster.name };
  return (
    <li>
      <div className="flex items-center gap-2 px-2.5 pt-3 pb-1 text-small font-semibold text-rail-ink">
        <look.icon aria-hidden className="size-3.5 shrink-0 text-rail-ink-2" />
        <span className="min-w-0 truncate" title={cluster.name}>
          {cluster.name}
        </span>
        <span className="sr-only">, {look.word}</span>
        {cluster.demo && (
          <span className="demo-stripes ml-auto rounded px-1 text-micro font-bold tracking-wide">DEMO</span>
        )}
      </div>
      <ul>
        <li>
          <Link to="/c/$cluster/timeline" params={params} className={item} activeProps={active}>
            <ChartNoAxesGantt aria-hidden className="size-4 shrink-0" />
            Timeline<span className="sr-only"> of {cluster.name}</span>
          </Link>
        </li>
        <li>
          <Link to="/c/$cluster/restore/new" params={params} className={item} activeProps={active}>
            <History aria-hidden className="size-4 shrink-0" />
            Restore<span className="sr-only"> {cluster.name}</span>
          </Link>
        </li>
        <li>
          <Link to="/c/$cluster/policies" params={params} className={item} activeProps={active}>
            <Scale aria-hidden className="size-4 shrink-0" />
            Policies<span className="sr-only"> of {cluster.name}</span>
          </Link>
        </li>
      </ul>
    </li>
  );
}

/** The way to every screen. */
export function Rail({ onClose }: { onClose?: () => void }) {
  const workspace = useWorkspace();
  const overview = useAnswer("overview", {}, { every: 15_000 });
  const clusters = workspace.data?.clusters ?? [];
  return (
    <div className="flex h-full flex-col bg-rail text-rail-ink">
      <div className="flex items-center gap-2.5 px-4 pt-4 pb-3">
        <Anchor aria-hidden className="size-5" strokeWidth={2.25} />
        <span className="text-lead font-semibold tracking-tight">Holdfast</span>
        {onClose && (
          <button
            type="button"
            aria-label="Close menu"
            onClick={onClose}
            className="ml-auto rounded-md p-1.5 text-rail-ink-2 hover:bg-rail-2"
          >
            <X aria-hidden className="size-4" />
          </button>
        )}
      </div>
      <nav aria-label="Screens" className="flex-1 overflow-y-auto px-2 pb-4">
        <ul>
          <li>
            <Link to="/overview" className={item} activeProps={active}>
              <LayoutDashboard aria-hidden className="size-4 shrink-0" />
              Overview
            </Link>
          </li>
          {clusters.map((cluster) => (
            <ClusterLinks
              key={cluster.name}
              cluster={cluster}
              overview={overview.data?.find((entry) => entry.cluster.name === cluster.name)}
            />
          ))}
        </ul>
        {clusters.length > 0 && (
          <Link to="/clusters/new" className={`${item} mt-2`} activeProps={active}>
            <Plus aria-hidden className="size-4 shrink-0" />
            Add a cluster
          </Link>
        )}
        <ul className="mt-3 border-t border-rail-line pt-3">
          <li>
            <Link to="/jobs" className={item} activeProps={active}>
              <ListTree aria-hidden className="size-4 shrink-0" />
              Jobs
            </Link>
          </li>
          <li>
            <Link to="/verify" className={item} activeProps={active}>
              <ShieldCheck aria-hidden className="size-4 shrink-0" />
              Verify
            </Link>
          </li>
          <li>
            <Link to="/settings" className={item} activeProps={active}>
              <Settings aria-hidden className="size-4 shrink-0" />
              Settings
            </Link>
          </li>
        </ul>
      </nav>
    </div>
  );
}
