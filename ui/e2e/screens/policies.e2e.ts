import { asking, lookAt } from "./look";

const path = "/c/orders-eu/policies";

lookAt([
  {
    name: "policies",
    path,
    prepare: async (page) => {
      await page.getByRole("textbox", { name: /each week/ }).fill("3mo");
      await page.getByRole("button", { name: "Compare with now" }).press("Enter");
      await page.getByText("Kept by this policy").waitFor();
    },
  },
  { name: "policies-empty", path, scene: "empty" },
  { name: "policies-failed", path, scene: "failed" },
  { name: "policies-apply", path, prepare: asking("Apply retention…") },
  { name: "policies-hold", path, prepare: asking("Place a hold…") },
  { name: "policies-replica", path, prepare: asking("Add a replica…") },
]);
