/** Preferences of this window. They may be lost at any time: storage can be full, denied or absent. */

export function recall<T extends string>(name: string, allowed: readonly T[], fallback: T): T {
  try {
    const found = window.localStorage.getItem(`holdfast.${name}`);
    return allowed.find((value) => value === found) ?? fallback;
  } catch {
    return fallback;
  }
}

export function remember(name: string, value: string): void {
  try {
    window.localStorage.setItem(`holdfast.${name}`, value);
  } catch {
    // The choice still holds until the window closes.
  }
}
