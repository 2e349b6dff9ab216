import { type ReactNode, useEffect } from "react";

interface PageProps {
  title: string;
  /** A sentence or facts beneath the title. */
  intro?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  /** `wide` for screens that are mostly a picture. */
  width?: "normal" | "wide";
}

/** A screen: its name in the window's title, its heading (which takes the focus after navigation), its content. */
export function Page({ title, intro, actions, children, width = "normal" }: PageProps) {
  useEffect(() => {
    document.title = `${title} · Holdfast`;
  }, [title]);
  return (
    <div
      className={`mx-auto w-full px-4 py-5 sm:px-6 lg:px-8 lg:py-7 ${width === "wide" ? "max-w-[110rem]" : "max-w-[84rem]"}`}
    >
      <header className="mb-5 flex flex-wrap items-start justify-between gap-x-6 gap-y-3">
        <div className="min-w-0">
          <h1 tabIndex={-1} className="text-title font-semibold tracking-tight break-words">
            {title}
          </h1>
          {intro && <div className="mt-1 max-w-[80ch] text-ink-2">{intro}</div>}
        </div>
        {actions && <div className="flex flex-wrap gap-2">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

interface SectionProps {
  title: string;
  children: ReactNode;
  aside?: ReactNode;
  className?: string;
}

/** A titled card. */
export function Section({ title, aside, children, className = "" }: SectionProps) {
  return (
    <section className={`card min-w-0 ${className}`}>
      <header className="flex flex-wrap items-center justify-between gap-x-4 gap-y-1 border-b border-line px-4 py-2.5">
        <h2 className="font-semibold">{title}</h2>
        {aside && <div className="text-small text-ink-3">{aside}</div>}
      </header>
      <div className="px-4 py-3.5">{children}</div>
    </section>
  );
}

/** Terms and their values, for facts that are read down. */
export function Facts({ rows }: { rows: readonly (readonly [string, ReactNode])[] }) {
  return (
    <div className="@container">
      <dl className="grid grid-cols-1 gap-x-6 gap-y-2 @min-[23rem]:grid-cols-[minmax(9rem,auto)_1fr]">
        {rows.map(([term, value]) => (
          <div key={term} className="contents">
            <dt className="text-small text-ink-3 -mb-1.5 @min-[23rem]:mb-0 @min-[23rem]:text-body">{term}</dt>
            <dd className="min-w-0 break-words">{value}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
