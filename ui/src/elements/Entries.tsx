import type { ReactNode } from "react";

interface Entry {
  key: string;
  /** What it is. */
  main: ReactNode;
  /** What else is known of it. */
  more?: ReactNode;
  /** What can be done with it. */
  actions?: ReactNode;
}

interface EntriesProps {
  label: string;
  entries: readonly Entry[];
  /** What is said instead of a list without entries. */
  empty: ReactNode;
}

/** A short list of things that can be acted upon. It needs no width: what does not fit goes beneath. */
export function Entries({ label, entries, empty }: EntriesProps) {
  if (entries.length === 0) return <p className="text-ink-2">{empty}</p>;
  return (
    <ul aria-label={label} className="divide-y divide-line">
      {entries.map(({ key, main, more, actions }) => (
        <li
          key={key}
          className="flex flex-wrap items-center justify-between gap-x-4 gap-y-2 py-2.5 first:pt-0 last:pb-0"
        >
          <div className="min-w-0 flex-1 basis-64">
            <div className="break-words">{main}</div>
            {more && <div className="text-small break-words text-ink-3">{more}</div>}
          </div>
          {actions && <div className="flex gap-1.5">{actions}</div>}
        </li>
      ))}
    </ul>
  );
}
