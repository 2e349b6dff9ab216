import { Database } from "lucide-react";
import type { ClusterSummary } from "../api/bindings";
import { CopyButton } from "../elements/CopyButton";

/** Says without doubt which cluster this is: by name, by PostgreSQL's own identifier, and DEMO where it is one. */
export function IdentityBand({ cluster }: { cluster: ClusterSummary }) {
  return (
    <div className="flex flex-wrap items-center gap-x-4 gap-y-1 border-b border-line bg-surface px-4 py-1.5 text-small sm:px-6 lg:px-8">
      {cluster.demo && (
        <strong className="demo-stripes rounded px-2 py-0.5 font-bold tracking-widest">
          <span className="rounded-sm bg-[var(--demo-a)] px-1">DEMO</span>
        </strong>
      )}
      <span className="inline-flex min-w-0 items-center gap-1.5 font-semibold">
        <Database aria-hidden className="size-3.5 shrink-0 text-ink-3" />
        <span className="break-all">{cluster.name}</span>
      </span>
      <span className="inline-flex items-center text-ink-2">
        <span className="max-sm:hidden">system identifier</span>
        <span className="sm:hidden">system id</span>&nbsp;
        <code>{cluster.system_identifier}</code>
        <CopyButton text={cluster.system_identifier} what="system identifier" />
      </span>
      <span className="text-ink-2 max-sm:hidden">PostgreSQL {cluster.server_version}</span>
      <span title={cluster.dsn} className="min-w-0 flex-1 basis-40 truncate text-ink-3 max-md:hidden">
        <code>{cluster.dsn}</code>
      </span>
    </div>
  );
}
