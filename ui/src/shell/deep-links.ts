import { readDeepLink } from "./links";

/** The event by which the desktop shell hands a `holdfast://` link to the window. */
const EVENT = "deep-link";

/** Follows links that the operating system hands to the application. Returns the way to stop. */
export function followDeepLinks(navigate: (path: string) => void): () => void {
  if (!("__TAURI_INTERNALS__" in window)) return () => {};
  let stop = () => {};
  let stopped = false;
  void import("@tauri-apps/api/event")
    .then(({ listen }) =>
      listen<string>(EVENT, ({ payload }) => {
        const path = readDeepLink(payload);
        if (path !== null) navigate(path);
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
