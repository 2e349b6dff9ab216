import { render, screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, test, vi } from "vitest";
import { Bytes, Count, formatBytes, formatCount } from "./Bytes";
import { CopyButton } from "./CopyButton";
import { Confirm } from "./Dialog";
import { Findings, findingsIn } from "./Findings";
import { Meter } from "./Meter";
import { Problem } from "./Problem";
import { StateBadge, WORST_FIRST } from "./StateBadge";

describe("sizes", () => {
  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1.00 KiB"],
    [1_536_000, "1.46 MiB"],
    [71_403_212_800, "66.5 GiB"],
    [549_755_813_888, "512 GiB"],
    [-2048, "−2.00 KiB"],
  ])("%d bytes are %s", (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test("unknown sizes and counts are not nought", () => {
    const { container } = render(
      <>
        <Bytes value={null} /> <Count value={undefined} /> <Bytes value={2048} exact />
      </>,
    );
    expect(container.textContent).toBe("unknown unknown 2.00 KiB (2 048 bytes)");
    expect(formatCount(1_234_567)).toBe("1 234 567");
  });
});

describe("states", () => {
  test("only proven is green", () => {
    for (const state of WORST_FIRST) {
      const { container, unmount } = render(<StateBadge state={state} />);
      expect(container.innerHTML.includes("proven")).toBe(state === "proven");
      expect(container.querySelector("svg")).not.toBeNull();
      unmount();
    }
  });

  test("every state has a shape of its own", () => {
    const shapes = WORST_FIRST.map((state) => {
      const { container, unmount } = render(<StateBadge state={state} />);
      const shape = container.querySelector("svg")?.innerHTML;
      unmount();
      return shape;
    });
    expect(new Set(shapes).size).toBe(WORST_FIRST.length);
  });
});

describe("copying", () => {
  test("says that it worked", async () => {
    const user = userEvent.setup();
    const write = vi.spyOn(navigator.clipboard, "writeText").mockResolvedValue();
    render(<CopyButton text="0/3000060" what="LSN" />);
    await user.click(screen.getByRole("button", { name: "Copy LSN" }));
    expect(write).toHaveBeenCalledWith("0/3000060");
    expect((await screen.findByRole("status")).textContent).toBe("Copied");
  });

  test("says that it did not", async () => {
    const user = userEvent.setup();
    vi.spyOn(navigator.clipboard, "writeText").mockRejectedValue(new Error("denied"));
    render(<CopyButton text="x" what="path" />);
    await user.click(screen.getByRole("button"));
    await waitFor(() => expect(screen.getByRole("status").textContent).toMatch(/Not copied/));
  });
});

describe("problems", () => {
  test("shows message, hint, code and details, and offers another try", async () => {
    const retry = vi.fn();
    render(
      <Problem
        title="It was not started"
        error={{
          code: "disk_full",
          message: "No space",
          hint: "Free some",
          retryable: true,
          details: { path: "/x" },
        }}
        onRetry={retry}
      />,
    );
    const alert = screen.getByRole("alert");
    for (const text of ["It was not started", "No space", "Free some", "disk_full", '"path": "/x"'])
      expect(alert.textContent).toContain(text);
    await userEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(retry).toHaveBeenCalledOnce();
  });

  test("loses nothing of what is no error object", () => {
    render(<Problem error={new Error("out of cheese")} />);
    expect(screen.getByRole("alert").textContent).toContain("out of cheese");
  });
});

describe("findings", () => {
  test("the worst comes first, with its repair", () => {
    render(
      <Findings
        label="Findings"
        findings={[
          { severity: "ok", code: "a", message: "fine", repair: null },
          { severity: "error", code: "b", message: "bad", repair: "ALTER ROLE x;" },
        ]}
      />,
    );
    const items = screen.getAllByRole("listitem");
    expect(items[0]?.textContent).toContain("bad");
    expect(items[0]?.textContent).toContain("ALTER ROLE x;");
    expect(screen.getByRole("button", { name: "Copy repair" })).toBeTruthy();
  });

  test("are taken from an error's details only where they are findings", () => {
    const finding = { severity: "error", code: "x", message: "m", repair: null };
    expect(findingsIn({ checks: [finding, 3, null] }, "checks")).toEqual([finding]);
    expect(findingsIn({ checks: "no" }, "checks")).toEqual([]);
    expect(findingsIn(null, "checks")).toEqual([]);
  });
});

describe("progress", () => {
  test("an unknown total is indeterminate, never 0 or 100 per cent", () => {
    render(<Meter label="Copying" done={5} total={null} />);
    const bar = screen.getByRole("progressbar", { name: "Copying" });
    expect(bar.getAttribute("aria-valuenow")).toBeNull();
    expect(bar.getAttribute("aria-valuetext")).toContain("unknown");
  });

  test("a part is rounded down", () => {
    render(<Meter label="Copying" done={999} total={1000} />);
    expect(screen.getByRole("progressbar").getAttribute("aria-valuenow")).toBe("99");
  });
});

test("a confirmation starts on Cancel and repeats the verb and its object", async () => {
  const confirm = vi.fn();
  const close = vi.fn();
  render(
    <Confirm title="Discard?" action="Discard copy" onConfirm={confirm} onClose={close}>
      text
    </Confirm>,
  );
  expect(document.activeElement?.textContent).toBe("Cancel");
  await userEvent.click(screen.getByRole("button", { name: "Cancel" }));
  expect(close).toHaveBeenCalledOnce();
  await userEvent.click(screen.getByRole("button", { name: "Discard copy" }));
  expect(confirm).toHaveBeenCalledOnce();
});
