import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import type { KeySlot } from "../api/bindings";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { NEW_SLOT } from "../testing/repository";
import { WORKSPACE } from "../testing/world";

const BUCKET = "/repository/0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1a11";
const FOLDER = "/repository/0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1a12";
const PASSPHRASE = "0b8f9a3e-6a55-4d0e-8f44-0d8f5f0f7a11";

describe("a repository", () => {
  test("is reached from the settings, and shows what its store honours", async () => {
    const { user } = mount("/settings");
    const links = await screen.findAllByRole("link", { name: /Store and keys of s3/ });
    await user.click(links[0] as HTMLElement);
    expect(await screen.findAllByText("yes")).toHaveLength(3);
    expect(screen.getByText(/for 30 days; nobody can/)).toBeTruthy();
    const objects = screen.getByRole("table", { name: "Objects" });
    expect(objects.textContent).toContain("packs");
    const asked = requestsOf("repository_status").length;
    await user.click(screen.getByRole("button", { name: "Ask the store again" }));
    await waitFor(() => expect(requestsOf("repository_status")).toHaveLength(asked + 1));
  });

  test("says what a store does not honour and what that means", async () => {
    mount(FOLDER);
    expect(await screen.findByText(/Two machines could replace/)).toBeTruthy();
    expect(screen.getAllByText("yes")).toHaveLength(2);
  });

  test("is not made up when this machine does not know it", async () => {
    mount("/repository/nobody");
    expect(await screen.findByText(/knows no repository of this id/)).toBeTruthy();
    expect(requestsOf("repository_status")).toHaveLength(0);
  });

  test("a store that does not answer leaves its keys to be seen", async () => {
    fakeEngine.refuse("repository_status", { code: "store_unreachable", message: "no answer within 20 s" });
    mount(BUCKET);
    expect(await screen.findByText("no answer within 20 s")).toBeTruthy();
    const slots = await screen.findByRole("list", { name: "Key slots" });
    expect(slots.textContent).toContain("has opened it now");
  });
});

describe("keys", () => {
  test("a passphrase is added when it was typed twice", async () => {
    const { user } = mount(BUCKET);
    await user.click(await screen.findByRole("button", { name: "Add a key…" }));
    const dialog = screen.getByRole("dialog");
    const add = within(dialog).getByRole("button", { name: "Add this key" });
    await user.click(add);
    expect(within(dialog).getByText("Choose a passphrase.")).toBeTruthy();
    await user.type(within(dialog).getByLabelText("New passphrase"), "correct horse");
    await user.type(within(dialog).getByLabelText("New passphrase again"), "correct hors");
    expect(within(dialog).getByText("The two do not match.")).toBeTruthy();
    await user.click(add);
    expect(requestsOf("keys_add")).toHaveLength(0);
    await user.type(within(dialog).getByLabelText("New passphrase again"), "e");
    await user.type(within(dialog).getByLabelText(/Call it/), "The team's");
    await user.click(add);
    expect(await screen.findByText(/“The team's” was added/)).toBeTruthy();
    expect(requestsOf("keys_add")[0]).toMatchObject({
      key: { kind: "passphrase", passphrase: "correct horse" },
      label: "The team's",
    });
  });

  test("a recovery key goes to a file, a colleague's key is pasted", async () => {
    const { user } = mount(BUCKET);
    await user.click(await screen.findByRole("button", { name: "Add a key…" }));
    const dialog = screen.getByRole("dialog");
    await user.click(within(dialog).getByRole("radio", { name: /recovery key/ }));
    await user.click(within(dialog).getByRole("button", { name: "Add this key" }));
    expect(within(dialog).getByText(/Say where the recovery key/)).toBeTruthy();
    await user.click(within(dialog).getByRole("radio", { name: /colleague/ }));
    expect(within(dialog).getByText("Paste the public key.")).toBeTruthy();
    await user.type(within(dialog).getByLabelText("Their public key"), " holdfast-public-key ab cd ");
    await user.click(within(dialog).getByRole("button", { name: "Add this key" }));
    await waitFor(() => expect(requestsOf("keys_add")).toHaveLength(1));
    expect(requestsOf("keys_add")[0]?.key).toEqual({
      kind: "public-key",
      text: "holdfast-public-key ab cd",
    });
  });

  test("this machine's keychain is offered only where there is one", async () => {
    fakeEngine.answerWith("workspace_status", () => ({
      ...WORKSPACE,
      secret_store: { kind: "unavailable", message: "no Secret Service answers" },
    }));
    const { user } = mount(BUCKET);
    await user.click(await screen.findByRole("button", { name: "Add a key…" }));
    expect(within(screen.getByRole("dialog")).queryByRole("radio", { name: /keychain/ })).toBeNull();
  });

  test("a secret is replaced by one of its kind", async () => {
    const { user } = mount(BUCKET);
    await user.click(await screen.findByRole("button", { name: "Replace the secret of anna's laptop…" }));
    const dialog = screen.getByRole("dialog");
    expect(within(dialog).queryByRole("textbox")).toBeNull();
    await user.click(within(dialog).getByRole("button", { name: "Replace the secret" }));
    expect(await screen.findByText(/The secret was replaced/)).toBeTruthy();
    expect(requestsOf("keys_rotate")[0]?.key).toEqual({ kind: "keychain" });
  });

  test("the last one that works on a new machine is removed only when its name was typed", async () => {
    const { user } = mount(BUCKET);
    await user.click(await screen.findByRole("button", { name: "Remove Passphrase…" }));
    const dialog = screen.getByRole("dialog");
    expect(dialog.textContent).toContain("without a certain device or a certain person");
    const remove = within(dialog).getByRole("button", { name: "Remove this key" });
    expect(remove).toHaveProperty("disabled", true);
    await user.type(within(dialog).getByRole("textbox"), "Passphrase");
    await user.click(remove);
    expect(await screen.findByText(/“Passphrase” was removed/)).toBeTruthy();
    expect(requestsOf("keys_remove")[0]).toMatchObject({ slot: PASSPHRASE, force: true });
  });

  test("another one is removed after a question, and a refusal is shown", async () => {
    fakeEngine.refuse("keys_remove", { code: "last_key_slot", message: "it is the only way in" });
    const { user } = mount(BUCKET);
    await user.click(await screen.findByRole("button", { name: "Remove anna's laptop…" }));
    const dialog = screen.getByRole("dialog");
    expect(dialog.textContent).toContain("What is left: Passphrase (passphrase).");
    expect(dialog.textContent).toContain("This machine has opened the repository with it");
    await user.type(within(dialog).getByRole("textbox"), "anna's laptop");
    await user.click(within(dialog).getByRole("button", { name: "Remove this key" }));
    expect(await within(dialog).findByText("it is the only way in")).toBeTruthy();
    expect(requestsOf("keys_remove")[0]?.force).toBe(false);
  });
});

test("whoever has closed a question is left alone by its answer", async () => {
  let answer: (slot: KeySlot) => void = () => {};
  fakeEngine.answerWith("keys_add", () => new Promise<KeySlot>((resolve) => (answer = resolve)) as never);
  const { user } = mount(BUCKET);
  await user.click(await screen.findByRole("button", { name: "Add a key…" }));
  await user.type(screen.getByLabelText("New passphrase"), "correct horse");
  await user.type(screen.getByLabelText("New passphrase again"), "correct horse");
  await user.click(screen.getByRole("button", { name: "Add this key" }));
  await user.click(screen.getByRole("button", { name: "Cancel" }));
  await user.click(screen.getByRole("button", { name: "Remove Passphrase…" }));
  const asked = requestsOf("keys_list").length;
  answer(NEW_SLOT);
  await waitFor(() => expect(requestsOf("keys_list").length).toBeGreaterThan(asked));
  expect(screen.getByRole("dialog").textContent).toContain("Remove “Passphrase”?");
});

test("the demo's own passphrase stays as it is", async () => {
  const [first, ...others] = WORKSPACE.repositories;
  if (first === undefined) throw new Error("the fixture has no repository");
  fakeEngine.answerWith("workspace_status", () => ({
    ...WORKSPACE,
    repositories: [{ ...first, unlock: "demo" }, ...others],
  }));
  mount(BUCKET);
  expect(await screen.findByRole("button", { name: "Remove anna's laptop…" })).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Remove Passphrase…" })).toBeNull();
});

describe("the recovery kit", () => {
  test("is written to a file that was named", async () => {
    const { user } = mount(BUCKET);
    const write = await screen.findByRole("button", { name: "Write the kit" });
    await user.click(write);
    expect(screen.getByText("Say where the page shall be written.")).toBeTruthy();
    await user.type(screen.getByLabelText("Write the page to this new file"), "/media/usb/kit.html");
    await user.click(write);
    expect(await screen.findByText("/media/usb/kit.html")).toBeTruthy();
    expect(screen.getByText(/remove the key “Recovery kit of 2026-05-04”/)).toBeTruthy();
  });
});
