import { type QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import type { newRouter } from "./router";
import { ThemeProvider } from "./shell/theme";
import { ZoneProvider } from "./time/zone";

export function App({ client, router }: { client: QueryClient; router: ReturnType<typeof newRouter> }) {
  return (
    <QueryClientProvider client={client}>
      <ThemeProvider>
        <ZoneProvider>
          <RouterProvider router={router} />
        </ZoneProvider>
      </ThemeProvider>
    </QueryClientProvider>
  );
}
