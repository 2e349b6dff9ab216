import { CircleCheck, Info, type LucideIcon, OctagonX, TriangleAlert } from "lucide-react";
import type { Finding } from "../api/bindings";
import { CodeBlock } from "./CodeBlock";

const SEVERITIES: Record<Finding["severity"], { icon: LucideIcon; word: string; className: string }> = {
  error: { icon: OctagonX, word: "Error", className: "text-broken" },
  warning: { icon: TriangleAlert, word: "Warning", className: "text-degraded" },
  info: { icon: Info, word: "Note", className: "text-verified" },
  // Passing one check proves nothing about the whole, so it is not green.
  ok: { icon: CircleCheck, word: "Passed", className: "text-ink-3" },
};

const ORDER: readonly Finding["severity"][] = ["error", "warning", "info", "ok"];

export function FindingMark({ severity }: { severity: Finding["severity"] }) {
  const look = SEVERITIES[severity] ?? SEVERITIES.info;
  return (
    <span
      className={`inline-flex shrink-0 items-center gap-1.5 self-start text-small font-semibold ${look.className}`}
    >
      <look.icon aria-hidden className="size-4" />
      {look.word}
    </span>
  );
}

/** Findings that an error object carries in its details under `name`; none when it carries none. */
export function findingsIn(details: unknown, name: string): Finding[] {
  if (typeof details !== "object" || details === null) return [];
  const list = (details as Record<string, unknown>)[name];
  if (!Array.isArray(list)) return [];
  return list.filter(
    (each): each is Finding =>
      typeof each === "object" && each !== null && "severity" in each && typeof each.message === "string",
  );
}

/** What a check found, worst first, with what repairs it. */
export function Findings({ findings, label }: { findings: Finding[]; label: string }) {
  const sorted = [...findings].sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
  return (
    <ul aria-label={label} className="divide-y divide-line">
      {sorted.map((finding) => (
        <li
          key={`${finding.code} ${finding.message}`}
          className="grid gap-x-4 gap-y-1 py-2.5 sm:grid-cols-[6rem_1fr]"
        >
          <FindingMark severity={finding.severity} />
          <div className="min-w-0 space-y-2">
            <p className="break-words">
              {finding.message} <code className="text-micro text-ink-3">{finding.code}</code>
            </p>
            {finding.repair && <CodeBlock text={finding.repair} what="repair" />}
          </div>
        </li>
      ))}
    </ul>
  );
}
