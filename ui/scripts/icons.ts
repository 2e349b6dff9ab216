/**
 * Renders icons/icon.svg to the sizes that the desktop bundles need:
 * `node --experimental-strip-types scripts/icons.ts` in a machine that has Chromium.
 */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const folder = join(import.meta.dirname, "../../icons");
const svg = readFileSync(join(folder, "icon.svg"), "utf8");

async function render(sizes: readonly number[]): Promise<Map<number, Buffer>> {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
  });
  const found = new Map<number, Buffer>();
  for (const size of sizes) {
    const page = await browser.newPage({ viewport: { width: size, height: size } });
    const scaled = svg.replace('width="512" height="512"', `width="${size}" height="${size}"`);
    await page.setContent(`<style>body{margin:0}svg{display:block}</style>${scaled}`);
    found.set(size, await page.screenshot({ omitBackground: true }));
    await page.close();
  }
  await browser.close();
  return found;
}

/** An ICO is a directory of pictures; each entry may be a whole PNG. */
function ico(pictures: readonly [number, Buffer][]): Buffer {
  const header = Buffer.alloc(6 + 16 * pictures.length);
  header.writeUInt16LE(1, 2);
  header.writeUInt16LE(pictures.length, 4);
  let offset = header.length;
  pictures.forEach(([size, png], index) => {
    const at = 6 + 16 * index;
    header.writeUInt8(size >= 256 ? 0 : size, at);
    header.writeUInt8(size >= 256 ? 0 : size, at + 1);
    header.writeUInt16LE(1, at + 4);
    header.writeUInt16LE(32, at + 6);
    header.writeUInt32LE(png.length, at + 8);
    header.writeUInt32LE(offset, at + 12);
    offset += png.length;
  });
  return Buffer.concat([header, ...pictures.map(([, png]) => png)]);
}

/** An ICNS is a sequence of typed chunks, big endian; the newer types hold PNGs. */
function icns(pictures: readonly [string, Buffer][]): Buffer {
  const chunks = pictures.map(([type, png]) => {
    const head = Buffer.alloc(8);
    head.write(type, 0, "ascii");
    head.writeUInt32BE(png.length + 8, 4);
    return Buffer.concat([head, png]);
  });
  const body = Buffer.concat(chunks);
  const head = Buffer.alloc(8);
  head.write("icns", 0, "ascii");
  head.writeUInt32BE(body.length + 8, 4);
  return Buffer.concat([head, body]);
}

const png = await render([16, 24, 32, 48, 64, 128, 256, 512, 1024]);
const get = (size: number): Buffer => {
  const found = png.get(size);
  if (!found) throw new Error(`size ${size} was not rendered`);
  return found;
};
for (const [name, size] of [
  ["32x32.png", 32],
  ["128x128.png", 128],
  ["128x128@2x.png", 256],
  ["256x256.png", 256],
  ["512x512.png", 512],
  ["icon.png", 512],
] as const) {
  writeFileSync(join(folder, name), get(size));
}
writeFileSync(join(folder, "icon.ico"), ico([16, 24, 32, 48, 64, 256].map((size) => [size, get(size)])));
writeFileSync(
  join(folder, "icon.icns"),
  icns([
    ["icp4", get(16)],
    ["icp5", get(32)],
    ["icp6", get(64)],
    ["ic07", get(128)],
    ["ic08", get(256)],
    ["ic09", get(512)],
    ["ic10", get(1024)],
    ["ic11", get(32)],
    ["ic12", get(64)],
    ["ic13", get(256)],
    ["ic14", get(512)],
  ]),
);
copyFileSync(join(folder, "icon.svg"), join(import.meta.dirname, "../public/icon.svg"));
