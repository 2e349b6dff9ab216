import type { ReactNode } from "react";
import type { Loss } from "../api/bindings";
import { Bytes, Count } from "../elements/Bytes";
import { Mono } from "../elements/Mono";
import { Facts } from "../elements/Page";
import { Time } from "../time/Time";

/** Whether anything that is stored is left out. */
export function leavesOut(loss: Loss): boolean {
  return loss.transactions > 0 || loss.first !== null;
}

/** What a restore leaves out of what is stored. Unknowns are said, never shown as nought. */
export function LossFacts({ loss }: { loss: Loss }) {
  return (
    <>
      {!leavesOut(loss) ? (
        <p>No committed transaction that is stored is left out.</p>
      ) : (
        <Facts
          rows={[
            [
              "Committed transactions",
              <strong key="t">
                <Count value={loss.transactions} />
              </strong>,
            ],
            ["Rolled back as well", <Count key="a" value={loss.aborted} />],
            ["WAL", <Bytes key="w" value={loss.wal_bytes} exact />],
            ["First left out", <Time key="f" value={loss.from} digits={6} />],
            ["Last left out", <Time key="l" value={loss.to} digits={6} />],
            ...(loss.earlier_but_lost.length > 0
              ? [
                  [
                    "Left out though committed earlier",
                    <span key="e">
                      {loss.earlier_but_lost.map((each) => (
                        <span key={each.lsn} className="block">
                          transaction <Mono value={each.xid} /> of <Time value={each.time} digits={6} />
                        </span>
                      ))}
                      commit times do not follow the order of the WAL
                    </span>,
                  ] as [string, ReactNode],
                ]
              : []),
          ]}
        />
      )}
      <p className="mt-3 text-small text-ink-3">
        Counted in the WAL that is stored. What the server committed since then is not known here.
      </p>
    </>
  );
}
