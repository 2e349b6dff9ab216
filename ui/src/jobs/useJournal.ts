import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import type { JobEvent } from "../api/bindings";
import { attachJob } from "../api/client";
import { queryKey, refreshLive, useAnswer } from "../api/queries";
import { addEvents, EMPTY_JOURNAL, hasEnded, type JournalView } from "./journal";

/** Several events that arrive together cost one rendering. */
const GATHER_MS = 80;

/**
 * Replays a job's journal from its first event and follows it; reloading the window loses nothing. A job
 * that runs again after it had ended is followed anew.
 */
export function useJournal(job: string, running = true): JournalView {
  const [state, setState] = useState<{ job: string; view: JournalView }>({ job, view: EMPTY_JOURNAL });
  const client = useQueryClient();

  // biome-ignore lint/correctness/useExhaustiveDependencies: it is followed anew when it runs again
  useEffect(() => {
    let waiting: JobEvent[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    // What was replayed before is skipped by its numbers, so the picture does not blink.
    setState((current) => (current.job === job ? current : { job, view: EMPTY_JOURNAL }));
    const flush = () => {
      const events = waiting;
      waiting = [];
      timer = undefined;
      setState((current) => (current.job === job ? { job, view: addEvents(current.view, events) } : current));
      if (events.some((event) => ["finished", "failed", "cancelled"].includes(event.kind))) {
        void client.invalidateQueries({ queryKey: queryKey("job_show", { job }) });
        void refreshLive(client);
      }
    };
    const detach = attachJob(job, 0, (event) => {
      waiting.push(event);
      timer ??= setTimeout(flush, GATHER_MS);
    });
    return () => {
      detach();
      clearTimeout(timer);
    };
  }, [job, client, running]);

  return state.job === job ? state.view : EMPTY_JOURNAL;
}

/** A job's record together with its journal. The record is asked again while the job runs. */
export function useJob(job: string) {
  const running = useRef(true);
  const detail = useAnswer("job_show", { job }, { every: running.current ? 3_000 : false });
  const state = detail.data?.job.state;
  const journal = useJournal(job, state === undefined || state === "running");
  running.current = state === undefined || state === "running";
  return { detail, journal, ended: hasEnded(state, journal) };
}
