/** What is not known is said, never shown as nought. */
export function Unknown({ children = "unknown" }: { children?: string }) {
  return <span className="text-ink-3 italic">{children}</span>;
}
