import { useEffect, useRef } from "react";
import { Rail } from "./Rail";

/** The rail on narrow screens: a modal drawer, so that the focus stays in it until it closes. */
export function MenuDrawer({ onClose }: { onClose: () => void }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    if (dialog && !dialog.open) dialog.showModal();
    return () => dialog?.close();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a modal dialog by itself
    <dialog
      ref={ref}
      aria-label="Menu"
      onCancel={onClose}
      onClick={(event) => {
        if (event.target === ref.current) onClose();
      }}
      className="my-0 mr-auto ml-0 h-dvh max-h-none w-[min(17rem,85%)] border-0 p-0"
    >
      <Rail onClose={onClose} />
    </dialog>
  );
}
