/** Whether the window is that of the desktop shell, which alone tells of what happens outside of it. */
export function isInShell(): boolean {
  return "__TAURI_INTERNALS__" in window;
}

/** Hears of one kind of event of the desktop shell; of none in a browser. Returns the way to stop. */
export function followShell<T>(event: string, onEvent: (payload: T) => void): () => void {
  if (!isInShell()) return () => {};
  let stop = () => {};
  let stopped = false;
  void import("@tauri-apps/api/event")
    .then(({ listen }) => listen<T>(event, ({ payload }) => onEvent(payload)))
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
