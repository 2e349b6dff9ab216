import { readDeepLink } from "./links";
import { followShell } from "./shell-events";

/** The event by which the desktop shell hands a `holdfast://` link to the window. */
const EVENT = "deep-link";

/** Follows links that the operating system hands to the application. Returns the way to stop. */
export function followDeepLinks(navigate: (path: string) => void): () => void {
  return followShell<string>(EVENT, (link) => {
    const path = readDeepLink(link);
    if (path !== null) navigate(path);
  });
}
