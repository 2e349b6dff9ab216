import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";
import { recall, remember } from "./preferences";

export type Theme = "system" | "light" | "dark";
export const THEMES: readonly Theme[] = ["system", "light", "dark"];

interface ThemeChoice {
  theme: Theme;
  setTheme: (theme: Theme) => void;
}

const ThemeContext = createContext<ThemeChoice>({ theme: "system", setTheme: () => {} });
const DARK = "(prefers-color-scheme: dark)";

export function applyTheme(theme: Theme): void {
  const dark = theme === "dark" || (theme === "system" && window.matchMedia(DARK).matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

/** Called before the first paint, so that the window does not flash in the wrong colours. */
export function applyRememberedTheme(): void {
  applyTheme(recall("theme", THEMES, "system"));
}

export function ThemeProvider({ children }: { children: ReactNode }) {
  const [theme, set] = useState<Theme>(() => recall("theme", THEMES, "system"));
  const setTheme = useCallback((next: Theme) => {
    remember("theme", next);
    set(next);
  }, []);
  useEffect(() => {
    applyTheme(theme);
    const media = window.matchMedia(DARK);
    const follow = () => applyTheme(theme);
    media.addEventListener("change", follow);
    return () => media.removeEventListener("change", follow);
  }, [theme]);
  const choice = useMemo(() => ({ theme, setTheme }), [theme, setTheme]);
  return <ThemeContext.Provider value={choice}>{children}</ThemeContext.Provider>;
}

export function useTheme(): ThemeChoice {
  return useContext(ThemeContext);
}
