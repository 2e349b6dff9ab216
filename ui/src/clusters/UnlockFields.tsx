import { useState } from "react";
import { Choice, Field } from "../elements/Field";

type Way = "passphrase" | "recovery";

/** What opens a repository that this machine does not know, as the fields hold it. */
export function useUnlock() {
  const [way, setWay] = useState<Way>("passphrase");
  const [secret, setSecret] = useState("");
  return {
    way,
    secret,
    setSecret,
    choose: (next: Way) => {
      setWay(next);
      setSecret("");
    },
    forget: () => setSecret(""),
    given: secret !== "",
    /** As requests name it. */
    request: {
      passphrase: way === "passphrase" ? secret : null,
      recovery_key: way === "recovery" ? secret.trim() : null,
    },
  };
}

/** Asks for a passphrase or a recovery key. `tried` says that it was missed when the form was sent. */
export function UnlockFields({ unlock, tried }: { unlock: ReturnType<typeof useUnlock>; tried: boolean }) {
  const word = unlock.way === "passphrase" ? "Passphrase" : "Recovery key";
  return (
    <>
      <Choice
        legend="Unlock it with"
        value={unlock.way}
        onChange={unlock.choose}
        options={[
          { value: "passphrase", label: "Its passphrase" },
          { value: "recovery", label: "Its recovery key" },
        ]}
        columns="sm:grid-cols-2"
      />
      <Field
        label={word}
        type="password"
        value={unlock.secret}
        onChange={unlock.setSecret}
        error={tried && !unlock.given ? `Enter the ${word.toLowerCase()}.` : undefined}
      />
    </>
  );
}
