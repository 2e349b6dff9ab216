/** The event by which the desktop shell tells what was dropped on the window. */
const EVENT = "tauri://drag-drop";

/** Whether this window is told what is dropped on it; a browser does not say where it lies. */
export function hearsDrops(): boolean {
  return "__TAURI_INTERNALS__" in window;
}

/** Hears of files and folders that are dropped on the window. Returns the way to stop. */
export function followDrops(onPath: (path: string) => void): () => void {
  if (!hearsDrops()) return () => {};
  let stop = () => {};
  let stopped = false;
  void import("@tauri-apps/api/event")
    .then(({ listen }) =>
      listen<{ paths?: string[] }>(EVENT, ({ payload }) => {
        const path = payload.paths?.[0];
        if (path !== undefined) onPath(path);
      }),
    )
    .then((unlisten) => {
      if (stopped) unlisten();
      else stop = unlisten;
    })
    .catch(() => undefined);
  return () => {
    stopped = true;
    stop();
  };
}
