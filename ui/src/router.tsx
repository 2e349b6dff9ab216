import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  type RouterHistory,
  redirect,
} from "@tanstack/react-router";
import { prefetchAnswer } from "./api/queries";
import { ButtonLink } from "./elements/Button";
import { Page } from "./elements/Page";
import { Problem } from "./elements/Problem";
import { Waiting } from "./elements/Waiting";
import { parseSearch, restoreSearch, stringifySearch, timelineSearch } from "./shell/links";
import { Shell } from "./shell/Shell";
import { timelineRequest } from "./timeline/request";

function NotFound() {
  return (
    <Page title="No such screen" intro="The address names nothing in this window.">
      <ButtonLink to="/overview">Go to the overview</ButtonLink>
    </Page>
  );
}

const root = createRootRouteWithContext<{ client: QueryClient }>()({
  component: Shell,
  notFoundComponent: NotFound,
});

const index = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: () => {
    throw redirect({ to: "/overview", replace: true });
  },
});

const overview = createRoute({
  getParentRoute: () => root,
  path: "/overview",
  component: lazyRouteComponent(() => import("./overview/OverviewScreen"), "OverviewScreen"),
});

const addCluster = createRoute({
  getParentRoute: () => root,
  path: "/clusters/new",
  component: lazyRouteComponent(() => import("./clusters/AddClusterScreen"), "AddClusterScreen"),
});

const timeline = createRoute({
  getParentRoute: () => root,
  path: "/c/$cluster/timeline",
  validateSearch: timelineSearch,
  loaderDeps: ({ search: { tli } }) => ({ tli }),
  // Asked for while the screen's code is still on its way.
  loader: ({ context, params, deps }) =>
    void prefetchAnswer(
      context.client,
      "timeline",
      timelineRequest(params.cluster, null, deps.tli === undefined ? null : Number(deps.tli)),
    ),
  component: lazyRouteComponent(() => import("./timeline/TimelineScreen"), "TimelineScreen"),
});

const restoreNew = createRoute({
  getParentRoute: () => root,
  path: "/c/$cluster/restore/new",
  validateSearch: restoreSearch,
  component: lazyRouteComponent(() => import("./restore/RestoreScreen"), "RestoreScreen"),
});

const restoreRun = createRoute({
  getParentRoute: () => root,
  path: "/restore/$job",
  component: lazyRouteComponent(() => import("./restore/RunScreen"), "RunScreen"),
});

const policies = createRoute({
  getParentRoute: () => root,
  path: "/c/$cluster/policies",
  component: lazyRouteComponent(() => import("./policies/PoliciesScreen"), "PoliciesScreen"),
});

const jobs = createRoute({
  getParentRoute: () => root,
  path: "/jobs",
  component: lazyRouteComponent(() => import("./jobs/JobsScreen"), "JobsScreen"),
});

const job = createRoute({
  getParentRoute: () => root,
  path: "/job/$job",
  component: lazyRouteComponent(() => import("./jobs/JobScreen"), "JobScreen"),
});

const demo = createRoute({
  getParentRoute: () => root,
  path: "/demo/$job",
  component: lazyRouteComponent(() => import("./demo/DemoScreen"), "DemoScreen"),
});

const verify = createRoute({
  getParentRoute: () => root,
  path: "/verify",
  component: lazyRouteComponent(() => import("./verify/VerifyScreen"), "VerifyScreen"),
});

const settings = createRoute({
  getParentRoute: () => root,
  path: "/settings",
  component: lazyRouteComponent(() => import("./settings/SettingsScreen"), "SettingsScreen"),
});

const repository = createRoute({
  getParentRoute: () => root,
  path: "/repository/$repository",
  component: lazyRouteComponent(() => import("./repository/RepositoryScreen"), "RepositoryScreen"),
});

const routes = root.addChildren([
  index,
  overview,
  addCluster,
  timeline,
  restoreNew,
  restoreRun,
  policies,
  jobs,
  job,
  demo,
  verify,
  settings,
  repository,
]);

export function newRouter(client: QueryClient, history?: RouterHistory) {
  return createRouter({
    routeTree: routes,
    context: { client },
    // The frame of the window stands at once; the screen comes into it.
    defaultPendingMs: 0,
    defaultPendingMinMs: 0,
    parseSearch,
    stringifySearch,
    ...(history ? { history } : {}),
    defaultPendingComponent: () => (
      <div className="px-8">
        <Waiting what="the screen" />
      </div>
    ),
    defaultErrorComponent: ({ error, reset }) => (
      <Page title="This screen failed">
        <Problem error={error} title="A fault of the window, not of your backups" onRetry={reset} />
      </Page>
    ),
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof newRouter>;
  }
}
