import type { ReactNode } from "react";

interface ScrollRegionProps {
  /** What it holds, for those who come to it by keyboard. */
  label: string;
  /** Whether it is seen. What is there for screen readers alone takes no focus. */
  reachable?: boolean;
  className?: string;
  children: ReactNode;
}

/** What may be wider than its place. It scrolls by itself, so it has a name and takes the focus: a
 * keyboard cannot move it otherwise. */
export function ScrollRegion({ label, reachable = true, className = "", children }: ScrollRegionProps) {
  return (
    <section
      aria-label={label}
      tabIndex={reachable ? 0 : undefined}
      className={reachable ? `overflow-auto ${className}` : className}
    >
      {children}
    </section>
  );
}
