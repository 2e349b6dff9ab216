import { Check, Copy, TriangleAlert } from "lucide-react";
import { useEffect, useState } from "react";

async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

interface CopyButtonProps {
  text: string;
  /** What is copied, for the button's name: "LSN", "command". */
  what: string;
  /** Also show the word. */
  labelled?: boolean;
}

/** The only copy button. It says whether it worked; secrets are never given to it. */
export function CopyButton({ text, what, labelled = false }: CopyButtonProps) {
  const [state, setState] = useState<"idle" | "copied" | "failed">("idle");

  useEffect(() => {
    if (state !== "copied") return;
    const timer = setTimeout(() => setState("idle"), 2000);
    return () => clearTimeout(timer);
  }, [state]);

  const Icon = state === "copied" ? Check : state === "failed" ? TriangleAlert : Copy;
  const word = state === "copied" ? "Copied" : state === "failed" ? "Not copied" : "Copy";
  return (
    <button
      type="button"
      aria-label={labelled ? undefined : `Copy ${what}`}
      onClick={async () => setState((await copyText(text)) ? "copied" : "failed")}
      className="inline-flex min-h-8 min-w-8 shrink-0 items-center justify-center gap-1.5 rounded-md px-1.5 text-small text-ink-2 transition-colors hover:bg-sunken hover:text-ink"
    >
      <Icon aria-hidden className="size-3.5" />
      {labelled && state === "idle" && <span>Copy {what}</span>}
      <span role="status" className={labelled || state === "failed" ? "" : "sr-only"}>
        {state === "idle" ? "" : state === "failed" ? `${word}: select the text instead` : word}
      </span>
    </button>
  );
}
