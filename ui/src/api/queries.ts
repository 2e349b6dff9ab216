import {
  keepPreviousData,
  QueryClient,
  type UseMutationResult,
  type UseQueryResult,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import type { ApiError, Command, RequestOf, ResponseOf } from "./client";
import { call, toErrorObject } from "./client";

/** What a finished change makes stale. Jobs change what every list shows. */
const LIVE: readonly Command[] = [
  "workspace_status",
  "overview",
  "jobs_list",
  "job_show",
  "points",
  "timeline",
  "commits",
  "density",
  "markers",
  "retention_plan",
  "retention_queue",
  "holds_list",
  "keys_list",
];

export function newQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        retry: (count, error) => toErrorObject(error).retryable && count < 2,
        staleTime: 2_000,
        refetchOnWindowFocus: true,
        refetchIntervalInBackground: false,
      },
      // Requests may hold a secret: nothing of a finished change is kept.
      mutations: { retry: false, gcTime: 0 },
    },
  });
}

export function queryKey<C extends Command>(command: C, request: RequestOf<C>) {
  return [command, request] as const;
}

interface Asking {
  /** Milliseconds between polls; none while the window is hidden. */
  every?: number | false;
  enabled?: boolean;
  staleTime?: number;
  /** Goes on showing the last answer while another request is under way. */
  keep?: boolean;
}

/** Asks a reading command and keeps the answer. */
export function useAnswer<C extends Command>(
  command: C,
  request: RequestOf<C>,
  { every = false, enabled = true, staleTime, keep = false }: Asking = {},
): UseQueryResult<ResponseOf<C>, ApiError> {
  return useQuery<ResponseOf<C>, ApiError>({
    queryKey: queryKey(command, request),
    queryFn: () => call(command, request),
    refetchInterval: every,
    enabled,
    ...(staleTime === undefined ? {} : { staleTime }),
    ...(keep ? { placeholderData: keepPreviousData } : {}),
  });
}

/** Asks before anybody waits for the answer. A refusal is left to those who ask again. */
export async function prefetchAnswer<C extends Command>(
  client: QueryClient,
  command: C,
  request: RequestOf<C>,
): Promise<void> {
  await client.prefetchQuery({
    queryKey: queryKey(command, request),
    queryFn: () => call(command, request),
  });
}

/** Runs a changing command; afterwards, also when it failed, everything that may have changed is asked again. */
export function useAction<C extends Command>(
  command: C,
  onDone?: (response: ResponseOf<C>) => void,
): UseMutationResult<ResponseOf<C>, ApiError, RequestOf<C>> {
  const client = useQueryClient();
  const here = useRef(true);
  useEffect(() => {
    here.current = true;
    return () => {
      here.current = false;
    };
  }, []);
  return useMutation<ResponseOf<C>, ApiError, RequestOf<C>>({
    mutationFn: (request) => call(command, request),
    onSuccess: (response) => {
      // Whoever has closed the question meanwhile is somewhere else.
      if (here.current) onDone?.(response);
    },
    // What has failed may have done a part of it.
    onSettled: () => refreshLive(client),
  });
}

export async function refreshLive(client: QueryClient): Promise<void> {
  await client.invalidateQueries({ predicate: (query) => LIVE.includes(query.queryKey[0] as Command) });
}

/** The workspace: asked often while something runs, seldom otherwise. */
export function useWorkspace() {
  const client = useQueryClient();
  const known = client.getQueryData<ResponseOf<"workspace_status">>(queryKey("workspace_status", {}));
  const busy = (known?.running_jobs.length ?? 0) > 0;
  return useAnswer("workspace_status", {}, { every: busy ? 3_000 : 12_000 });
}
