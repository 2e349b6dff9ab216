import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { newQueryClient } from "./api/queries";
import { newRouter } from "./router";
import { applyRememberedTheme } from "./shell/theme";
import "./styles/app.css";

applyRememberedTheme();

const client = newQueryClient();
const router = newRouter(client);
// The screen's code and data are on their way before the first element is made.
void router.load();

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App client={client} router={router} />
    </StrictMode>,
  );
}
