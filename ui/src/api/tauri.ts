import { Channel, invoke } from "@tauri-apps/api/core";
import type { JobEvent } from "./bindings";
import type { Transport } from "./client";
import { ApiError, toErrorObject } from "./error";

export function tauriTransport(): Transport {
  return {
    async call(command, request) {
      try {
        return await invoke("call", { command, request });
      } catch (rejection) {
        throw new ApiError(toErrorObject(rejection));
      }
    },
    attachJob(job, fromSeq, onEvent) {
      let next = fromSeq;
      let stopped = false;
      const channel = new Channel<JobEvent>();
      channel.onmessage = (event) => {
        if (stopped || event.seq < next) return;
        next = event.seq + 1;
        onEvent(event);
      };
      // A job that cannot be attached is reported by `job_show`, which the screens ask as well.
      void invoke("job_attach", { job, fromSeq, channel }).catch(() => undefined);
      return () => {
        if (stopped) return;
        stopped = true;
        void invoke("job_detach", { job, channel: channel.id }).catch(() => undefined);
      };
    },
  };
}
