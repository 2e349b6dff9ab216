import { useState } from "react";
import type { WorkspaceStatus } from "../api/bindings";
import { Button } from "../elements/Button";
import { Choice } from "../elements/Field";
import { AttachRepository } from "./AttachRepository";
import { NewRepository } from "./NewRepository";
import { UNLOCKED_BY } from "./unlock";

export interface Chosen {
  id: string;
  url: string;
}

interface RepositoryStepProps {
  workspace: WorkspaceStatus;
  onChosen: (chosen: Chosen) => void;
}

/** Where the backups go: a repository that is known here, a new one, or one that another machine made. */
export function RepositoryStep({ workspace, onChosen }: RepositoryStepProps) {
  const { repositories, secret_store: store } = workspace;
  const [choice, setChoice] = useState<string>(repositories[0]?.id ?? "new");
  const existing = repositories.find((each) => each.id === choice);
  const keychain = store.kind === "keychain";
  return (
    <div className="space-y-5">
      <Choice
        legend="Where the backups go"
        value={choice}
        onChange={setChoice}
        options={[
          ...repositories.map((each) => ({
            value: each.id,
            label: each.url,
            hint: `Unlocked by ${UNLOCKED_BY[each.unlock]}`,
          })),
          { value: "new", label: "A new repository", hint: "An empty folder or bucket" },
          {
            value: "attach",
            label: "An existing repository that this machine does not know",
            hint: "Its clusters appear here with everything that is stored of them",
          },
        ]}
      />
      {existing && (
        <Button look="primary" onClick={() => onChosen({ id: existing.id, url: existing.url })}>
          Use this repository
        </Button>
      )}
      {choice === "new" && (
        <NewRepository keychain={keychain} storeMessage={store.message} onCreated={onChosen} />
      )}
      {choice === "attach" && (
        <AttachRepository keychain={keychain} storeMessage={store.message} onAttached={onChosen} />
      )}
    </div>
  );
}
