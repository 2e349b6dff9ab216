import { mkdirSync } from "node:fs";
import { test } from "vitest";
import { launch, openWindow, overflow, settle } from "./browser";
import { startHost } from "./host";
import { SCREENS } from "./screens";

const OUT = "/tmp/shots";
test("shots", async () => {
  mkdirSync(OUT, { recursive: true });
  const host = await startHost();
  const browser = await launch();
  const only = process.env.ONLY ? new RegExp(process.env.ONLY) : /./;
  const widths = (process.env.W ?? "1440").split(",").map(Number);
  const schemes = (process.env.S ?? "light").split(",") as ("light" | "dark")[];
  for (const screen of SCREENS.filter((s) => only.test(s.name)))
    for (const width of widths)
      for (const scheme of schemes) {
        host.engine.reset(screen.scene ?? "busy");
        const w = await openWindow(browser, { width, scheme });
        await w.page.goto(host.url + screen.path);
        try {
          await settle(w.page);
          await screen.prepare?.(w.page);
          await settle(w.page);
        } catch (e) {
          console.log("!!", screen.name, String(e).slice(0, 500));
        }
        const h = await w.page.evaluate(() => document.documentElement.scrollHeight);
        await w.page.setViewportSize({ width, height: Math.max(h, 700) });
        await w.page.waitForTimeout(120);
        await w.page.screenshot({ path: `${OUT}/${screen.name}-${width}-${scheme}.png`, fullPage: true });
        const o = await overflow(w.page);
        if (o || w.complaints.length) console.log(screen.name, width, scheme, o, w.complaints.slice(0, 3));
        await w.context.close();
      }
  await browser.close();
  await host.close();
}, 600000);
