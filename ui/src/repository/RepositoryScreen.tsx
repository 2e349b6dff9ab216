import { useParams } from "@tanstack/react-router";
import { useWorkspace } from "../api/queries";
import { Mono } from "../elements/Mono";
import { Notice } from "../elements/Notice";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { KeySlots } from "./KeySlots";
import { RecoveryKitCard } from "./RecoveryKitCard";
import { StoreCard } from "./StoreCard";

/** One repository: what its store honours, what opens it, and the page with which it is opened elsewhere. */
export function RepositoryScreen() {
  const { repository } = useParams({ from: "/repository/$repository" });
  const workspace = useWorkspace();
  const known = workspace.data?.repositories.find(({ id }) => id === repository);
  return (
    <Page title="Repository" intro={known && <Mono value={known.url} copy="repository URL" />}>
      {workspace.isPending && <Waiting what="the repository" />}
      {workspace.error && (
        <Problem
          error={workspace.error}
          title="The workspace could not be read"
          onRetry={() => workspace.refetch()}
        />
      )}
      {workspace.data && !known && <Notice>This machine knows no repository of this id.</Notice>}
      {known && (
        <div className="grid items-start gap-4 lg:grid-cols-2">
          <div className="min-w-0 space-y-4">
            <KeySlots
              repository={known.id}
              secretStore={workspace.data?.secret_store.kind ?? "unavailable"}
              demo={known.unlock === "demo"}
            />
            <RecoveryKitCard repository={known.id} />
          </div>
          <StoreCard repository={known.id} />
        </div>
      )}
    </Page>
  );
}
