import { ChevronLeft, ChevronRight, Maximize2, Table2, ZoomIn, ZoomOut } from "lucide-react";
import { memo } from "react";
import type { RestorePoint, Timeline } from "../api/bindings";
import { Button } from "../elements/Button";
import type { ShortcutId } from "../shell/shortcuts";
import { formatDuration } from "../time/format";
import { useZone } from "../time/zone";
import { BranchChoice } from "./BranchChoice";
import { GoTo } from "./GoTo";
import type { Wanted } from "./goto";

interface TimelineToolbarProps {
  all: Timeline;
  way: number | null;
  /** Milliseconds that are shown. */
  shown: number;
  points: readonly RestorePoint[];
  /** Whether the tables are seen. */
  table: boolean;
  onTable: (table: boolean) => void;
  onRun: (id: ShortcutId) => void;
  /** Moves by a part of what is shown. */
  onPan: (part: number) => void;
  onGo: (wanted: Exclude<Wanted, { kind: "none" }>) => void;
}

/** What moves the picture by a press. It stays as it is while the picture is moved by hand. */
export const TimelineToolbar = memo(function TimelineToolbar(props: TimelineToolbarProps) {
  const { all, way, shown, points, table, onTable, onRun, onPan, onGo } = props;
  const { zone } = useZone();
  return (
    <div className="flex flex-wrap items-center gap-1.5 border-b border-line px-3 py-2">
      <Button size="small" icon={ZoomIn} onClick={() => onRun("zoom-in")}>
        Zoom in
      </Button>
      <Button size="small" icon={ZoomOut} onClick={() => onRun("zoom-out")}>
        Zoom out
      </Button>
      <Button size="small" icon={Maximize2} onClick={() => onRun("zoom-fit")}>
        Everything
      </Button>
      <Button size="small" aria-label="Earlier" onClick={() => onPan(-0.5)}>
        <ChevronLeft aria-hidden className="size-4" />
      </Button>
      <Button size="small" aria-label="Later" onClick={() => onPan(0.5)}>
        <ChevronRight aria-hidden className="size-4" />
      </Button>
      <span className="px-2 text-small text-ink-3 max-sm:hidden">
        {formatDuration(shown / 1000)} shown, in {zone === "utc" ? "UTC" : "local time"}
      </span>
      <BranchChoice all={all} way={way} />
      <GoTo points={points} onGo={onGo} />
      <Button
        size="small"
        icon={Table2}
        aria-pressed={table}
        onClick={() => onTable(!table)}
        className="ml-auto"
      >
        {table ? "Hide tables" : "Show as tables"}
      </Button>
    </div>
  );
});
