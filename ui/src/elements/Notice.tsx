import type { ReactNode } from "react";

/** Something that limits what is shown, without being a failure. `status` has it announced. */
export function Notice({ children, status = false }: { children: ReactNode; status?: boolean }) {
  return (
    <div
      role={status ? "status" : undefined}
      className="rounded-lg border border-degraded/40 bg-degraded-soft px-4 py-2.5 text-ink"
    >
      {children}
    </div>
  );
}
