import { LoaderCircle } from "lucide-react";
import type { ReactNode } from "react";

/** Said while an answer is on its way; it names what is waited for. */
export function Waiting({ what }: { what: string }) {
  return (
    <p role="status" className="flex items-center gap-2 py-8 text-ink-3">
      <LoaderCircle aria-hidden className="size-4 animate-spin" />
      Reading {what}…
    </p>
  );
}

/** Said where there is nothing, and what would put something there. */
export function Nothing({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="rounded-lg border border-dashed border-line-strong/60 px-6 py-10 text-center">
      <p className="font-semibold">{title}</p>
      {children && (
        <div className="mx-auto mt-1.5 max-w-prose space-y-4 text-balance text-ink-2">{children}</div>
      )}
    </div>
  );
}
