import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { newQueryClient } from "./api/queries";
import { newRouter } from "./router";
import { applyRememberedTheme } from "./shell/theme";
import "./styles/app.css";

applyRememberedTheme();

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App client={newQueryClient()} router={newRouter()} />
    </StrictMode>,
  );
}
