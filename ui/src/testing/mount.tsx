import { createMemoryHistory } from "@tanstack/react-router";
import { render } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { App } from "../App";
import { newQueryClient } from "../api/queries";
import { newRouter } from "../router";

/** The whole window at a path, as it would be opened by a link. */
export function mount(path: string) {
  const client = newQueryClient();
  const router = newRouter(client, createMemoryHistory({ initialEntries: [path] }));
  const view = render(<App client={client} router={router} />);
  return { ...view, router, client, user: userEvent.setup() };
}
