import { X } from "lucide-react";
import { type ReactNode, useEffect, useId, useRef, useState } from "react";
import { Button, type Look } from "./Button";
import { Field } from "./Field";
import { Problem } from "./Problem";

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** Centred, or a drawer on the right or left. */
  place?: "centre" | "right" | "left";
  wide?: boolean;
  /** Leaves the closing cross out where other buttons close. */
  plain?: boolean;
}

const PLACES = {
  centre: "m-auto max-h-[85dvh] w-[calc(100%-2rem)] rounded-xl",
  right: "my-0 mr-0 ml-auto h-dvh max-h-none w-[min(30rem,100%)] rounded-l-xl",
  left: "my-0 ml-0 mr-auto h-dvh max-h-none w-[min(18rem,85%)]",
} as const;

/** A modal window: the browser keeps the focus inside, Escape closes it, focus returns to where it was. */
export function Dialog({ title, onClose, children, place = "centre", wide, plain }: DialogProps) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();

  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    if (dialog && !dialog.open) dialog.showModal();
    return () => {
      if (dialog?.open) dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);

  const size = place === "centre" ? (wide ? "max-w-3xl" : "max-w-lg") : "";
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a modal dialog by itself
    <dialog
      ref={ref}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === ref.current) onClose();
      }}
      className={`overflow-auto border border-line bg-raised p-0 text-ink shadow-lifted ${PLACES[place]} ${size}`}
    >
      <div className="p-5">
        <div className="mb-3 flex items-start justify-between gap-4">
          <h2 id={id} className="text-lead font-semibold">
            {title}
          </h2>
          {!plain && (
            <button
              type="button"
              aria-label="Close"
              onClick={onClose}
              className="-mt-1 -mr-1 inline-flex size-8 shrink-0 items-center justify-center rounded-md text-ink-2 hover:bg-sunken"
            >
              <X aria-hidden className="size-4" />
            </button>
          )}
        </div>
        {children}
      </div>
    </dialog>
  );
}

interface SubmitProps {
  /** Repeats the verb and its object: "Place the hold", never "OK". */
  action: string;
  busy: boolean;
  onClose: () => void;
}

/** The end of a form in a dialog: leaving it, and sending it. */
export function SubmitOrCancel({ action, busy, onClose }: SubmitProps) {
  return (
    <div className="flex flex-wrap justify-end gap-2">
      <Button onClick={onClose}>Cancel</Button>
      <Button type="submit" look="primary" busy={busy}>
        {action}
      </Button>
    </div>
  );
}

interface ConfirmProps {
  title: string;
  /** Repeats the verb and its object: "Discard restored copy", never "OK". */
  action: string;
  look?: Look;
  busy?: boolean;
  /** For what cannot be taken back: what must be typed first, and what for. */
  typed?: { text: string; label: string };
  error?: unknown;
  onConfirm: () => void;
  onClose: () => void;
  children: ReactNode;
}

/** Asks before something happens. The focus starts on Cancel, so a stray Enter changes nothing. */
export function Confirm({
  title,
  action,
  look = "primary",
  busy,
  typed,
  error,
  onConfirm,
  onClose,
  children,
}: ConfirmProps) {
  const cancel = useRef<HTMLButtonElement>(null);
  const [text, setText] = useState("");
  useEffect(() => cancel.current?.focus(), []);
  return (
    <Dialog title={title} onClose={onClose} plain>
      <div className="space-y-3 text-ink-2">
        {children}
        {typed && <Field label={typed.label} value={text} onChange={setText} />}
      </div>
      {Boolean(error) && (
        <div className="mt-4">
          <Problem error={error} />
        </div>
      )}
      <div className="mt-5 flex flex-wrap justify-end gap-2">
        <Button ref={cancel} onClick={onClose} className="min-h-11">
          Cancel
        </Button>
        <Button
          look={look}
          busy={busy}
          disabled={typed !== undefined && text !== typed.text}
          onClick={onConfirm}
          className="min-h-11"
        >
          {action}
        </Button>
      </div>
    </Dialog>
  );
}
