import { useWorkspace } from "../api/queries";
import { Page } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { VerifyKnown } from "./VerifyKnown";
import { VerifyOffline } from "./VerifyOffline";

/** Reading back what is stored, of this machine's repositories or of whatever was brought here. */
export function VerifyScreen() {
  const workspace = useWorkspace();
  return (
    <Page
      title="Verify"
      intro="Reads back what is stored and finds damage. Only a restore proves that a point works."
    >
      <div className="grid items-start gap-4 lg:grid-cols-2">
        <div className="min-w-0">
          {workspace.data ? (
            <VerifyKnown workspace={workspace.data} />
          ) : workspace.error ? (
            <Problem
              error={workspace.error}
              title="The clusters could not be read"
              onRetry={() => workspace.refetch()}
            />
          ) : (
            <Waiting what="the clusters" />
          )}
        </div>
        <div className="min-w-0">
          <VerifyOffline />
        </div>
      </div>
    </Page>
  );
}
