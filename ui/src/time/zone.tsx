import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { recall, remember } from "../shell/preferences";
import type { Zone } from "./format";

interface ZoneChoice {
  zone: Zone;
  setZone: (zone: Zone) => void;
  toggle: () => void;
}

const ZoneContext = createContext<ZoneChoice>({ zone: "utc", setZone: () => {}, toggle: () => {} });

/** The one switch that decides how every time of the window is written. UTC until somebody says otherwise. */
export function ZoneProvider({ children }: { children: ReactNode }) {
  const [zone, set] = useState<Zone>(() => recall("zone", ["utc", "local"], "utc"));
  const setZone = useCallback((next: Zone) => {
    remember("zone", next);
    set(next);
  }, []);
  const choice = useMemo(
    () => ({ zone, setZone, toggle: () => setZone(zone === "utc" ? "local" : "utc") }),
    [zone, setZone],
  );
  return <ZoneContext.Provider value={choice}>{children}</ZoneContext.Provider>;
}

export function useZone(): ZoneChoice {
  return useContext(ZoneContext);
}
