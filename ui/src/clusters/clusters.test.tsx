import { screen, waitFor, within } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { fakeEngine, requestsOf } from "../testing/fake-client";
import { mount } from "../testing/mount";
import { hasPassword, nameProblem, urlProblem } from "./validity";

describe("what is refused before it is sent", () => {
  test.each([
    ["postgresql://me:secret@db/x", true],
    ["postgres://me@db:5432/x?password=secret", true],
    ["host=db user=me password = secret", true],
    ["host=db sslpassword=x", true],
    ["postgresql://me@db:5432/x", false],
    ["postgresql://db:5432/x", false],
    ["host=db user=me passfile=/x", false],
  ])("%s carries a password: %s", (dsn, expected) => expect(hasPassword(dsn)).toBe(expected));

  test("addresses", () => {
    for (const good of ["/srv/b", "./b", "s3://bucket/p", "file:///srv", "gs://b", "az://c/p"])
      expect(urlProblem(good)).toBeNull();
    for (const bad of ["", "ftp://x", "s3://key:secret@bucket"]) expect(urlProblem(bad)).not.toBeNull();
  });

  test("names", () => {
    expect(nameProblem("orders-eu.1", [])).toBeNull();
    for (const bad of ["", "a b", "ü", "x".repeat(64)]) expect(nameProblem(bad, [])).not.toBeNull();
    expect(nameProblem("ledger", ["ledger"])).toContain("already");
  });
});

async function toServer() {
  const view = mount("/clusters/new");
  await view.user.click(await screen.findByRole("button", { name: "Use this repository" }));
  return view;
}

describe("adding a cluster", () => {
  test("goes from repository to server to findings to a name", async () => {
    const { user, router } = await toServer();
    await user.type(screen.getByLabelText("Connection string"), "host=db user=holdfast");
    await user.type(screen.getByLabelText("Password"), "canary-secret");
    await user.click(screen.getByRole("button", { name: "Check this server" }));
    await screen.findByText(/max_slot_wal_keep_size is 4 GiB/);
    expect(screen.getByRole("button", { name: "Copy repair" })).toBeTruthy();
    await user.click(screen.getByRole("button", { name: "Add cluster" }));
    expect(requestsOf("cluster_add")).toEqual([]);
    await user.type(screen.getByLabelText("Name"), "stock");
    await user.click(screen.getByRole("button", { name: "Add stock" }));
    await waitFor(() => expect(router.state.location.pathname).toBe("/overview"));
    expect(requestsOf("cluster_add")).toEqual([
      {
        name: "stock",
        dsn: "host=db user=holdfast",
        password: "canary-secret",
        repository: "0196a0b0-5c7e-7d31-9a0e-2f1b6f0c1a11",
      },
    ]);
    expect(document.documentElement.outerHTML).not.toContain("canary-secret");
  });

  test("a password inside the connection string is refused with the reason", async () => {
    const { user } = await toServer();
    await user.type(screen.getByLabelText("Connection string"), "postgresql://me:secret@db/x");
    expect(screen.getByRole("alert").textContent).toContain("does not belong in the connection string");
    expect(screen.getByRole("button", { name: "Check this server" }).hasAttribute("disabled")).toBe(true);
  });

  test("what stands against a backup is shown with its repair, and checked again", async () => {
    const { user } = await toServer();
    await user.click(screen.getByRole("button", { name: "Check this server" }));
    expect(screen.getByText("Enter a connection string.")).toBeTruthy();
    await user.type(screen.getByLabelText("Connection string"), "host=broken");
    await user.click(screen.getByRole("button", { name: "Check this server" }));
    await screen.findByText("ALTER ROLE holdfast REPLICATION;");
    expect(screen.queryByLabelText("Name")).toBeNull();
    await user.click(screen.getByRole("button", { name: "Check again" }));
    await waitFor(() => expect(requestsOf("cluster_check")).toHaveLength(2));
    await user.click(screen.getByRole("button", { name: "Change the connection" }));
    expect(screen.getByLabelText<HTMLInputElement>("Connection string").value).toBe("host=broken");
  });

  test("a refused addition keeps what was entered", async () => {
    fakeEngine.refuse("cluster_add", {
      code: "name_taken",
      message: "taken",
    });
    const { user } = await toServer();
    await user.type(screen.getByLabelText("Connection string"), "host=db");
    await user.click(screen.getByRole("button", { name: "Check this server" }));
    await user.type(await screen.findByLabelText("Name"), "stock");
    await user.click(screen.getByRole("button", { name: "Add stock" }));
    expect((await screen.findByRole("alert")).textContent).toContain("The cluster was not added");
    expect(screen.getByLabelText<HTMLInputElement>("Name").value).toBe("stock");
  });

  test("a server that cannot be asked is said to be", async () => {
    fakeEngine.refuse("cluster_check", {
      code: "bad_dsn",
      message: "no such keyword",
    });
    const { user } = await toServer();
    await user.type(screen.getByLabelText("Connection string"), "hots=db");
    await user.click(screen.getByRole("button", { name: "Check this server" }));
    expect((await screen.findByRole("alert")).textContent).toContain("no such keyword");
  });
});

describe("a new repository", () => {
  test("needs its passphrase twice and a place for the recovery key", async () => {
    const { user } = mount("/clusters/new");
    await user.click(await screen.findByRole("radio", { name: /^A new repository/ }));
    const form = screen.getByRole("form", { name: "New repository" });
    await user.click(within(form).getByRole("button", { name: "Create repository" }));
    expect(within(form).getAllByRole("alert").length).toBe(3);
    await user.type(within(form).getByLabelText("Folder or URL"), "/srv/backups");
    await user.type(within(form).getByLabelText("Passphrase"), "correct horse");
    await user.type(within(form).getByLabelText("Passphrase again"), "correct hors");
    expect(within(form).getByText("The two do not match.")).toBeTruthy();
    await user.type(within(form).getByLabelText("Passphrase again"), "e");
    await user.type(
      within(form).getByLabelText("Write the recovery key to this new file"),
      "/media/usb/key.txt",
    );
    await user.click(within(form).getByRole("button", { name: "Create repository" }));
    await screen.findByLabelText("Connection string");
    expect(requestsOf("repository_create")).toEqual([
      {
        url: "/srv/backups",
        passphrase: "correct horse",
        keychain: true,
        recovery_key_file: "/media/usb/key.txt",
      },
    ]);
    expect(document.documentElement.outerHTML).not.toContain("correct horse");
    await user.click(screen.getByRole("button", { name: "Change repository" }));
    await screen.findByText("Where the backups go");
  });

  test("without a keychain says what that means", async () => {
    fakeEngine.reset("no-keychain");
    mount("/clusters/new");
    const box = await screen.findByRole("checkbox", { name: "Keep a key in the OS keychain" });
    expect(box.hasAttribute("disabled")).toBe(true);
    expect(screen.getByText(/Not possible here/).textContent).toContain("Secret Service");
  });

  test("one that exists is attached by its recovery key", async () => {
    const { user } = mount("/clusters/new");
    await user.click(await screen.findByRole("radio", { name: /^An existing repository/ }));
    await user.click(screen.getByRole("button", { name: "Attach repository" }));
    expect(screen.getByText("Enter the passphrase.")).toBeTruthy();
    await user.click(screen.getByRole("radio", { name: "Its recovery key" }));
    await user.type(screen.getByLabelText("Folder or URL"), "s3://b/p");
    await user.type(screen.getByLabelText("Recovery key"), " HF1-KEY ");
    await user.click(screen.getByRole("checkbox", { name: "Keep a key in the OS keychain" }));
    await user.click(screen.getByRole("button", { name: "Attach repository" }));
    await screen.findByLabelText("Connection string");
    expect(requestsOf("repository_attach")).toEqual([
      { url: "s3://b/p", passphrase: null, recovery_key: "HF1-KEY", keychain: false },
    ]);
  });

  test("a refused attachment is shown", async () => {
    fakeEngine.refuse("repository_attach", {
      code: "wrong_key",
      message: "the key does not fit",
    });
    const { user } = mount("/clusters/new");
    await user.click(await screen.findByRole("radio", { name: /^An existing repository/ }));
    await user.type(screen.getByLabelText("Folder or URL"), "s3://b/p");
    await user.type(screen.getByLabelText("Passphrase"), "x");
    await user.click(screen.getByRole("button", { name: "Attach repository" }));
    expect((await screen.findByRole("alert")).textContent).toContain("the key does not fit");
  });
});
