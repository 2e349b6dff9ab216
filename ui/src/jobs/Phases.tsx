import { CircleCheck, CircleX, LoaderCircle } from "lucide-react";
import type { PhaseTime } from "../api/bindings";
import { Bytes, Count, formatBytes, formatCount } from "../elements/Bytes";
import { Meter } from "../elements/Meter";
import { Unknown } from "../elements/Unknown";
import { useNow } from "../time/clock";
import { Duration } from "../time/Time";
import { type PhaseView, phaseTitle } from "./journal";

function Amount({ value, unit }: { value: number | null; unit: string | null }) {
  if (value === null) return <Unknown />;
  if (unit === "bytes") return <Bytes value={value} />;
  return (
    <>
      <Count value={value} />
      {unit ? ` ${unit}` : ""}
    </>
  );
}

function rateText(rate: number, unit: string | null): string {
  if (unit === "bytes") return `${formatBytes(rate)}/s`;
  const number = rate < 10 ? rate.toFixed(1) : formatCount(rate);
  return `${number} ${unit ?? ""}/s`;
}

function Numbers({ phase }: { phase: PhaseView }) {
  if (phase.done === null && phase.total === null) return null;
  return (
    <span className="text-small text-ink-2">
      <Amount value={phase.done} unit={phase.unit === "bytes" || phase.total === null ? phase.unit : null} />
      {phase.total !== null ? (
        <>
          {" of "}
          <Amount value={phase.total} unit={phase.unit} />
        </>
      ) : (
        phase.state === "running" && <span className="text-ink-3"> · total unknown</span>
      )}
      {phase.rate !== null && ` · ${rateText(phase.rate, phase.unit)}`}
    </span>
  );
}

function PhaseMark({ state }: { state: PhaseView["state"] }) {
  if (state === "running")
    return <LoaderCircle aria-hidden className="mt-0.5 size-4 animate-spin text-accent" />;
  if (state === "stopped") return <CircleX aria-hidden className="mt-0.5 size-4 text-broken" />;
  return <CircleCheck aria-hidden className="mt-0.5 size-4 text-ink-3" />;
}

const WORDS = { running: "running", stopped: "stopped here", done: "done" } as const;

/** The phases as they happen, each with its own unit. */
export function PhaseList({ phases }: { phases: readonly PhaseView[] }) {
  const now = useNow();
  return (
    <ol aria-label="Phases" className="space-y-0">
      {phases.map((phase, index) => {
        const end = phase.endedAt === null ? now : Date.parse(phase.endedAt);
        const seconds = Math.max(0, (end - Date.parse(phase.startedAt)) / 1000);
        return (
          <li
            key={`${phase.name} ${phase.startedAt}`}
            className={`grid grid-cols-[1.25rem_minmax(0,1fr)_auto] gap-x-2 py-2 ${index > 0 ? "border-t border-line" : ""}`}
          >
            <PhaseMark state={phase.state} />
            <div className="min-w-0">
              <div className="flex flex-wrap items-baseline gap-x-3">
                <span className={phase.state === "running" ? "font-semibold" : ""}>
                  {phaseTitle(phase.name)}
                </span>
                <span className="sr-only">, {WORDS[phase.state]}</span>
                <Numbers phase={phase} />
              </div>
              {phase.state === "running" && (
                <div className="mt-1.5">
                  <Meter label={phaseTitle(phase.name)} done={phase.done} total={phase.total} />
                </div>
              )}
            </div>
            <span className="text-small text-ink-3">
              <Duration seconds={phase.state === "running" ? Math.floor(seconds) : seconds} />
            </span>
          </li>
        );
      })}
    </ol>
  );
}

/** How long each phase took, from the job's result. */
export function PhaseTable({ phases }: { phases: readonly PhaseTime[] }) {
  const sum = phases.reduce((total, phase) => total + phase.seconds, 0);
  return (
    <table className="w-full text-left">
      <caption className="sr-only">Duration of each phase</caption>
      <thead className="text-small text-ink-3">
        <tr className="border-b border-line">
          <th scope="col" className="py-1.5 pr-3 font-medium">
            Phase
          </th>
          <th scope="col" className="py-1.5 pr-3 text-right font-medium">
            Data
          </th>
          <th scope="col" className="py-1.5 text-right font-medium">
            Time
          </th>
        </tr>
      </thead>
      <tbody>
        {phases.map((phase) => (
          <tr key={phase.name} className="border-b border-line/70">
            <th scope="row" className="py-1.5 pr-3 font-normal">
              {phaseTitle(phase.name)}
            </th>
            <td className="py-1.5 pr-3 text-right whitespace-nowrap text-ink-2">
              {phase.bytes === null ? <span className="text-ink-3">–</span> : <Bytes value={phase.bytes} />}
            </td>
            <td className="py-1.5 text-right">
              <Duration seconds={phase.seconds} />
            </td>
          </tr>
        ))}
      </tbody>
      <tfoot>
        <tr className="font-semibold">
          <th scope="row" className="pt-2 pr-3">
            Together
          </th>
          <td />
          <td className="pt-2 text-right">
            <Duration seconds={sum} />
          </td>
        </tr>
      </tfoot>
    </table>
  );
}
