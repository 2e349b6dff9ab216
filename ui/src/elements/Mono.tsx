import { CopyButton } from "./CopyButton";
import { Unknown } from "./Unknown";

interface MonoProps {
  /** An LSN, a transaction id, a path, a hash. */
  value: string | number | null | undefined;
  /** Names what it is and adds a copy button. */
  copy?: string;
  className?: string;
}

/** Identifiers that are compared character by character. */
export function Mono({ value, copy, className = "" }: MonoProps) {
  if (value === null || value === undefined || value === "") return <Unknown />;
  const text = String(value);
  const code = <code className={`[overflow-wrap:anywhere] text-[0.93em] ${className}`}>{text}</code>;
  if (copy === undefined) return code;
  return (
    <span className="inline-flex max-w-full items-center gap-0.5">
      {code}
      <CopyButton text={text} what={copy} />
    </span>
  );
}
