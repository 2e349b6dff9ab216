import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const developmentHost = `http://127.0.0.1:${process.env.HOLDFAST_DEV_PORT ?? "4180"}`;

export default defineConfig({
  plugins: [react(), tailwindcss()],
  clearScreen: false,
  server: {
    host: "127.0.0.1",
    port: 5173,
    strictPort: true,
    proxy: { "/api": { target: developmentHost, changeOrigin: true } },
  },
  build: {
    target: "es2022",
    outDir: "dist",
    // The content security policy allows no data: fonts or scripts, so nothing is inlined.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
});
