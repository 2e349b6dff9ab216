import type { Depth } from "../api/bindings";

/** How deep a verification looks, each level with what it adds to the one before. */
export const LEVELS: readonly { value: Depth; label: string; hint: string }[] = [
  { value: "structure", label: "Structure", hint: "Signatures, hashes and references of every object." },
  { value: "data", label: "Every byte", hint: "Also decrypts everything and compares it with its name." },
  {
    value: "cluster",
    label: "Files of the cluster",
    hint: "Also puts every snapshot's files together and compares them with the manifest of their copy.",
  },
  {
    value: "pages",
    label: "Pages and WAL",
    hint: "Also checks pages and control files, and reads WAL record by record.",
  },
];

/** Why a text cannot be a part of the whole; null when it can, or when it is empty. */
export function partProblem(text: string): string | null {
  const part = text.trim();
  if (part === "") return null;
  const [, number, of] = /^(\d{1,5})\/(\d{1,5})$/.exec(part) ?? [];
  const good = Number(number) >= 1 && Number(number) <= Number(of) && Number(of) <= 10_000;
  return good ? null : "Write which part of how many, such as 1/7.";
}
