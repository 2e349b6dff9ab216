import { Dialog } from "../elements/Dialog";
import { printKeys, SHORTCUTS } from "./shortcuts";

const GROUPS = ["Go to", "Window", "Timeline"] as const;

export function CheatSheet({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose} wide>
      <div className="grid gap-6 sm:grid-cols-2">
        {GROUPS.map((group) => (
          <section
            key={group}
            className={group === "Timeline" ? "sm:col-start-2 sm:row-span-2 sm:row-start-1" : ""}
          >
            <h3 className="mb-1.5 text-small font-semibold text-ink-3">{group}</h3>
            <dl className="divide-y divide-line">
              {SHORTCUTS.filter((shortcut) => shortcut.group === group).map((shortcut) => (
                <div key={shortcut.id} className="flex items-center justify-between gap-4 py-1.5">
                  <dt>{shortcut.label}</dt>
                  <dd className="flex shrink-0 gap-1">
                    {printKeys(shortcut.keys[0]).map((key) => (
                      <kbd
                        key={key}
                        className="min-w-6 rounded border border-line-strong/60 bg-sunken px-1.5 py-0.5 text-center text-micro"
                      >
                        {key}
                      </kbd>
                    ))}
                  </dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <p className="mt-5 text-small text-ink-3">No key starts a backup or a restore, or removes anything.</p>
    </Dialog>
  );
}
