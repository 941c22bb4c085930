// A worker whose test run was killed would stay for ever; vitest forbids `process.exit` in its workers.
process.once("disconnect", () => process.kill(process.pid, "SIGKILL"))
