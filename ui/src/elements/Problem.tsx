import { OctagonX, RotateCw } from "lucide-react";
import type { ReactNode } from "react";
import type { ErrorObject } from "../api/bindings";
import { toErrorObject } from "../api/client";
import { Button } from "./Button";
import { CopyButton } from "./CopyButton";

function hasDetails(details: unknown): boolean {
  if (details === null || details === undefined) return false;
  return typeof details !== "object" || Object.keys(details).length > 0;
}

interface ProblemProps {
  /** Whatever was thrown, or an error object. */
  error: unknown;
  /** What was attempted, when the message alone would not say. */
  title?: string;
  onRetry?: () => void;
  /** Ways on, such as the nearest targets that would work. */
  children?: ReactNode;
  /** Announced at once; leave out where the problem was there from the start. */
  live?: boolean;
}

/** The only way a failure is shown: what happened, what it means, what to do; it stays until it is gone. */
export function Problem({ error, title, onRetry, children, live = true }: ProblemProps) {
  const object: ErrorObject = toErrorObject(error);
  return (
    <div
      role={live ? "alert" : undefined}
      className="flex gap-3 rounded-lg border border-broken/40 bg-broken-soft px-4 py-3 text-ink"
    >
      <OctagonX aria-hidden className="mt-0.5 size-5 shrink-0 text-broken" />
      <div className="min-w-0 flex-1 space-y-1.5">
        {title && <p className="font-semibold">{title}</p>}
        <p className={`break-words ${title ? "" : "font-semibold"}`}>{object.message}</p>
        {object.hint && <p className="break-words whitespace-pre-line text-ink-2">{object.hint}</p>}
        {children}
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1 pt-0.5 text-small text-ink-2">
          <code className="rounded bg-broken/10 px-1.5 py-0.5 text-ink">{object.code}</code>
          {onRetry && (
            <Button size="small" icon={RotateCw} onClick={onRetry}>
              Try again
            </Button>
          )}
          <CopyButton text={JSON.stringify(object, null, 2)} what="error" labelled />
        </div>
        {hasDetails(object.details) && (
          <details className="text-small">
            <summary className="w-fit text-ink-2 hover:text-ink">Details</summary>
            <pre className="mt-1 rounded bg-surface p-2 whitespace-pre-wrap break-words">
              {JSON.stringify(object.details, null, 2)}
            </pre>
          </details>
        )}
      </div>
    </div>
  );
}
