import { CopyButton } from "./CopyButton";

/** A command or a statement to run elsewhere, wrapped and copyable. */
export function CodeBlock({ text, what }: { text: string; what: string }) {
  return (
    <div className="flex items-start gap-2 rounded-md border border-line bg-sunken py-2 pr-2 pl-3">
      <pre className="m-0 min-w-0 flex-1 py-1 text-small leading-relaxed whitespace-pre-wrap break-words text-ink">
        {text}
      </pre>
      <CopyButton text={text} what={what} />
    </div>
  );
}
