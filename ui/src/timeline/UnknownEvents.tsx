import type { UseQueryResult } from "@tanstack/react-query";
import { BookOpen } from "lucide-react";
import type { Markers } from "../api/bindings";
import type { ApiError } from "../api/error";
import { useAction } from "../api/queries";
import { Button } from "../elements/Button";
import { Notice } from "../elements/Notice";
import { Problem } from "../elements/Problem";

interface UnknownEventsProps {
  cluster: string;
  markers: UseQueryResult<Markers, ApiError>;
}

/** Says where it is not known what happened to tables, and has that WAL read. Nothing known is never "nothing". */
export function UnknownEvents({ cluster, markers }: UnknownEventsProps) {
  const read = useAction("markers");
  if (markers.error)
    return (
      <div className="mt-3">
        <Problem
          error={markers.error}
          title="What happened to tables could not be read"
          onRetry={() => markers.refetch()}
        />
      </div>
    );
  const stretches = markers.data?.unknown.length ?? 0;
  if (stretches === 0) return null;
  return (
    <div className="mt-3 space-y-3">
      <Notice>
        <div className="flex flex-wrap items-center justify-between gap-x-4 gap-y-2">
          <p className="min-w-0 flex-1 basis-64">
            In {stretches === 1 ? "one stretch" : `${stretches} stretches`} of the WAL it is not known what
            was deleted, truncated or dropped: its index has no markers. Reading that WAL finds out, 256
            segments at a time.
          </p>
          <Button
            size="small"
            icon={BookOpen}
            busy={read.isPending}
            onClick={() =>
              read.mutate({ cluster, from: null, to: null, limit: 0, buckets: 0, rebuild: true })
            }
          >
            Read this WAL
          </Button>
        </div>
      </Notice>
      {read.error && <Problem error={read.error} title="The WAL could not be read" />}
    </div>
  );
}
