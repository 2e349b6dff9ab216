import { useNavigate } from "@tanstack/react-router";
import { FlaskConical, KeyRound, ShieldAlert } from "lucide-react";
import type { WorkspaceStatus } from "../api/bindings";
import { useAction, useWorkspace } from "../api/queries";
import { UNLOCKED_BY } from "../clusters/unlock";
import { Button, ButtonLink } from "../elements/Button";
import { Entries } from "../elements/Entries";
import { Choice } from "../elements/Field";
import { Mono } from "../elements/Mono";
import { Facts, Page, Section } from "../elements/Page";
import { Problem } from "../elements/Problem";
import { Waiting } from "../elements/Waiting";
import { type Theme, useTheme } from "../shell/theme";
import { useNow } from "../time/clock";
import { formatTime } from "../time/format";
import { Time } from "../time/Time";
import { useZone } from "../time/zone";

function SecretStore({ workspace }: { workspace: WorkspaceStatus }) {
  const { kind, message } = workspace.secret_store;
  const available = kind === "keychain";
  const Icon = available ? KeyRound : ShieldAlert;
  return (
    <Section title="Secret store">
      <div className="flex items-start gap-3">
        <Icon
          aria-hidden
          className={`mt-0.5 size-5 shrink-0 ${available ? "text-ink-2" : "text-degraded"}`}
        />
        <div className="min-w-0">
          <p className={`font-medium ${available ? "" : "text-degraded"}`}>
            {available ? "OS keychain" : "No OS keychain"}
          </p>
          <p className="break-words text-ink-2">{message}</p>
          {!available && (
            <p className="mt-1.5 text-ink-2">
              Timelines can be read and restores run with a passphrase. Nothing is stored anywhere else
              instead: Holdfast does not fall back silently.
            </p>
          )}
        </div>
      </div>
    </Section>
  );
}

function Repositories({ workspace }: { workspace: WorkspaceStatus }) {
  return (
    <Section title="Repositories">
      <Entries
        label="Repositories"
        empty="None is known yet. Adding a cluster creates or attaches one."
        entries={workspace.repositories.map((repository) => ({
          key: repository.id,
          main: <Mono value={repository.url} copy="repository URL" />,
          more: (
            <>
              attached <Time value={repository.attached_at} digits={0} /> · unlocked by{" "}
              {UNLOCKED_BY[repository.unlock]} · <Mono value={repository.id} />
            </>
          ),
          actions: (
            <ButtonLink
              size="small"
              icon={KeyRound}
              to="/repository/$repository"
              params={{ repository: repository.id }}
            >
              Store and keys<span className="sr-only"> of {repository.url}</span>
            </ButtonLink>
          ),
        }))}
      />
    </Section>
  );
}

function Binaries({ workspace }: { workspace: WorkspaceStatus }) {
  return (
    <Section title="PostgreSQL on this machine">
      {workspace.server_binaries.length === 0 ? (
        <p className="text-ink-2">
          None was found. Backups work without; a restored copy cannot be started and checked here.
        </p>
      ) : (
        <table className="w-full text-left">
          <caption className="sr-only">PostgreSQL servers that can be started here</caption>
          <thead className="text-small text-ink-3">
            <tr className="border-b border-line">
              <th scope="col" className="py-1.5 pr-4 font-medium">
                Major
              </th>
              <th scope="col" className="py-1.5 pr-4 font-medium">
                Version
              </th>
              <th scope="col" className="py-1.5 font-medium">
                Programs
              </th>
            </tr>
          </thead>
          <tbody>
            {workspace.server_binaries.map((each) => (
              <tr key={each.bin_directory} className="border-b border-line/70 last:border-0">
                <td className="py-1.5 pr-4">{each.major}</td>
                <td className="py-1.5 pr-4 whitespace-nowrap">{each.version}</td>
                <td className="py-1.5">
                  <Mono value={each.bin_directory} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}

const THEME_OPTIONS: readonly { value: Theme; label: string }[] = [
  { value: "system", label: "As the system" },
  { value: "light", label: "Light" },
  { value: "dark", label: "Dark" },
];

function Appearance() {
  const { theme, setTheme } = useTheme();
  const { zone, setZone } = useZone();
  const now = new Date(useNow()).toISOString();
  return (
    <Section title="Appearance">
      <div className="space-y-5">
        <Choice
          legend="Colours"
          value={theme}
          onChange={setTheme}
          options={THEME_OPTIONS}
          columns="sm:grid-cols-3"
        />
        <Choice
          legend="Times"
          value={zone}
          onChange={setZone}
          options={[
            { value: "utc", label: "UTC", hint: formatTime(now, "utc", { digits: 0 }) },
            {
              value: "local",
              label: "This machine's zone",
              hint: formatTime(now, "local", { digits: 0 }),
            },
          ]}
          columns="sm:grid-cols-2"
        />
      </div>
    </Section>
  );
}

function Demo({ workspace }: { workspace: WorkspaceStatus }) {
  const navigate = useNavigate();
  const start = useAction("demo_start", ({ job }) => void navigate({ to: "/demo/$job", params: { job } }));
  const running = workspace.running_jobs.find((job) => job.kind === "demo");
  return (
    <Section title="Demo workspace">
      <p className="text-ink-2">
        A private PostgreSQL with sample data, damaged on purpose, to rehearse a restore with. It takes about
        a minute and needs no server.
      </p>
      {start.error && (
        <div className="mt-3">
          <Problem error={start.error} title="The demo was not started" />
        </div>
      )}
      <div className="mt-3">
        {running ? (
          <ButtonLink to="/demo/$job" params={{ job: running.id }}>
            Watch the running demo
          </ButtonLink>
        ) : (
          <Button
            icon={FlaskConical}
            busy={start.isPending}
            disabled={workspace.demo !== null}
            onClick={() => start.mutate({})}
          >
            Open the demo workspace
          </Button>
        )}
        {workspace.demo && !running && (
          <span className="ml-3 text-small text-ink-2">
            It is there already: see {workspace.demo.cluster}.
          </span>
        )}
      </div>
    </Section>
  );
}

export function SettingsScreen() {
  const workspace = useWorkspace();
  return (
    <Page title="Settings">
      {workspace.isPending && <Waiting what="the settings" />}
      {workspace.data && (
        <div className="grid items-start gap-4 lg:grid-cols-2">
          <div className="min-w-0 space-y-4">
            <SecretStore workspace={workspace.data} />
            <Repositories workspace={workspace.data} />
            <Binaries workspace={workspace.data} />
          </div>
          <div className="min-w-0 space-y-4">
            <Appearance />
            <Demo workspace={workspace.data} />
            <Section title="About">
              <Facts
                rows={[
                  ["Version", workspace.data.version],
                  ["Home", <Mono key="h" value={workspace.data.home} copy="path" />],
                ]}
              />
            </Section>
          </div>
        </div>
      )}
    </Page>
  );
}
