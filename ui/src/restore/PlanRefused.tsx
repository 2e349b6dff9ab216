import { toErrorObject } from "../api/client";
import { Button } from "../elements/Button";
import { Findings, findingsIn } from "../elements/Findings";
import { Problem } from "../elements/Problem";
import { Time } from "../time/Time";
import { nearestTargets } from "./target";

/** A refused plan: why, and the nearest targets that would work. Choosing one only fills the form. */
export function PlanRefused({ error, onUse }: { error: unknown; onUse: (target: string) => void }) {
  const { details } = toErrorObject(error);
  const nearest = nearestTargets(details);
  const findings = findingsIn(details, "findings");
  return (
    <Problem error={error} title="This restore cannot be planned. Nothing was written.">
      {findings.length > 0 && (
        <div className="rounded-md bg-surface px-3">
          <Findings findings={findings} label="What stands against it" />
        </div>
      )}
      {nearest.length > 0 && (
        <div className="pt-1">
          <p className="text-small font-medium">Nearest that would work:</p>
          <ul className="mt-1 flex flex-wrap gap-2">
            {nearest.map((each) => (
              <li key={each.target}>
                <Button size="small" onClick={() => onUse(each.target)}>
                  Use {each.label}
                  {each.time && (
                    <>
                      {" · "}
                      <Time value={each.time} />
                    </>
                  )}
                </Button>
              </li>
            ))}
          </ul>
        </div>
      )}
    </Problem>
  );
}
