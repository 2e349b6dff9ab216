import { Link } from "@tanstack/react-router";
import { ChevronRight, Keyboard, Menu, Monitor, Moon, Sun } from "lucide-react";
import { useZone } from "../time/zone";
import { type Place, SCREEN_NAMES, shortId } from "./crumbs";
import { THEMES, useTheme } from "./theme";

const NEXT_THEME = { system: "light", light: "dark", dark: "system" } as const;
const THEME_ICON = { system: Monitor, light: Sun, dark: Moon } as const;

const square =
  "inline-flex size-9 shrink-0 items-center justify-center rounded-md text-ink-2 hover:bg-sunken hover:text-ink";

/** UTC or local, for every time of the window. */
export function ZoneSwitch() {
  const { zone, setZone } = useZone();
  return (
    <fieldset className="inline-flex rounded-md border border-line-strong/60 p-0.5">
      <legend className="sr-only">Times shown in</legend>
      {(["utc", "local"] as const).map((each) => (
        <button
          key={each}
          type="button"
          aria-pressed={zone === each}
          onClick={() => setZone(each)}
          className={`min-h-7 rounded px-2 text-small font-medium ${
            zone === each ? "bg-accent text-on-accent" : "text-ink-2 hover:text-ink"
          }`}
        >
          {each === "utc" ? "UTC" : "Local"}
        </button>
      ))}
    </fieldset>
  );
}

interface Crumb {
  text: string;
  to?: string;
  /** Stays where there is room for one only. */
  main?: boolean;
}

function crumbsOf(place: Place, cluster: string | null): Crumb[] {
  const crumbs: Crumb[] = [{ text: "Workspace", to: "/overview" }];
  if (cluster) crumbs.push({ text: cluster, to: `/c/${encodeURIComponent(cluster)}/timeline` });
  if ((place.screen === "job" || place.screen === "run" || place.screen === "demo") && !cluster)
    crumbs.push({ text: "Jobs", to: "/jobs" });
  crumbs.push({ text: SCREEN_NAMES[place.screen], main: true });
  if (place.job) crumbs.push({ text: shortId(place.job) });
  return crumbs;
}

interface TopBarProps {
  place: Place;
  cluster: string | null;
  onMenu: () => void;
  onKeys: () => void;
}

export function TopBar({ place, cluster, onMenu, onKeys }: TopBarProps) {
  const { theme, setTheme } = useTheme();
  const crumbs = crumbsOf(place, cluster);
  const ThemeIcon = THEME_ICON[theme];
  return (
    <div className="flex min-h-12 items-center gap-2 border-b border-line bg-surface px-2 sm:px-4 lg:px-6">
      <button type="button" aria-label="Open menu" onClick={onMenu} className={`${square} md:hidden`}>
        <Menu aria-hidden className="size-5" />
      </button>
      <nav aria-label="Breadcrumb" className="min-w-0 flex-1 lg:pl-2">
        <ol className="flex min-w-0 items-center gap-1 text-small">
          {crumbs.map((crumb, index) => {
            const last = index === crumbs.length - 1;
            return (
              <li
                key={`${crumb.text} ${crumb.to ?? ""}`}
                className={`flex min-w-0 items-center gap-1 ${crumb.main ? "" : "max-sm:hidden"}`}
              >
                {crumb.to && !last ? (
                  <Link to={crumb.to} className="truncate text-ink-2 hover:text-ink hover:underline">
                    {crumb.text}
                  </Link>
                ) : (
                  <span aria-current={last ? "page" : undefined} className="truncate font-medium">
                    {crumb.text}
                  </span>
                )}
                {!last && <ChevronRight aria-hidden className="size-3.5 shrink-0 text-ink-3 max-sm:hidden" />}
              </li>
            );
          })}
        </ol>
      </nav>
      <ZoneSwitch />
      <button
        type="button"
        aria-label={`Colours: ${theme}. Change to ${NEXT_THEME[theme]}`}
        onClick={() => setTheme(NEXT_THEME[theme] ?? THEMES[0])}
        className={square}
      >
        <ThemeIcon aria-hidden className="size-4" />
      </button>
      <button
        type="button"
        aria-label="Keyboard shortcuts"
        onClick={onKeys}
        className={`${square} max-sm:hidden`}
      >
        <Keyboard aria-hidden className="size-4" />
      </button>
    </div>
  );
}
