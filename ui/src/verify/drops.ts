import { followShell } from "../shell/shell-events";

/** The event by which the desktop shell tells what was dropped on the window; a browser does not say where it lies. */
const EVENT = "tauri://drag-drop";

/** Hears of files and folders that are dropped on the window. Returns the way to stop. */
export function followDrops(onPath: (path: string) => void): () => void {
  return followShell<{ paths?: string[] }>(EVENT, ({ paths }) => {
    const path = paths?.[0];
    if (path !== undefined) onPath(path);
  });
}
