import { lookAt } from "./look";

lookAt([
  { name: "jobs", path: "/jobs" },
  { name: "jobs-empty", path: "/jobs", scene: "first-run" },
  { name: "job-backup", path: "/job/job-backup-done" },
  { name: "job-backup-running", path: "/job/job-backup-running" },
  { name: "job-archive", path: "/job/job-archive" },
  { name: "job-verify", path: "/job/job-verify-done" },
  { name: "job-replication", path: "/job/job-replication-done" },
  { name: "job-rekey", path: "/job/job-rekey-done" },
  { name: "job-retention", path: "/job/job-retention-done" },
  { name: "job-interrupted", path: "/job/job-interrupted" },
  { name: "job-missing", path: "/job/nothing" },
  { name: "demo-running", path: "/demo/job-demo-running" },
  { name: "demo-done", path: "/demo/job-demo-done" },
]);
