import { defineConfig } from "vitest/config"

/** Tests that need no service: they run alone, at once, with `npx vitest run tests/domain`. */
const pure = [
  "tests/domain/**/*.test.ts",
  "tests/simulation/**/*.test.ts",
  "tests/architecture.test.ts",
  "tests/docs.test.ts"
]

/** Time must not depend on the host's zone: what reckons with it runs again in zones far from UTC. */
const timeTests = [
  "Cron",
  "Cursor",
  "Expression",
  "Instant",
  "Misfire",
  "Recurrence",
  "ScheduleSpec",
  "Zone",
  "HostZone"
].map((name) => `tests/domain/${name}.test.ts`)
const elsewhere = (name: string, zone: string) => ({
  extends: true as const,
  test: { name, include: timeTests, env: { TZ: zone } }
})

export default defineConfig({
  test: {
    pool: "forks",
    poolOptions: { forks: { maxForks: 2, minForks: 1 } },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 60_000,
    setupFiles: "tests/support/worker.ts",
    projects: [
      { extends: true, test: { name: "pure", include: pure } },
      elsewhere("new-york", "America/New_York"),
      elsewhere("apia", "Pacific/Apia"),
      {
        extends: true,
        test: {
          name: "services",
          include: ["tests/**/*.test.ts"],
          exclude: pure,
          globalSetup: "tests/support/globalSetup.ts"
        }
      }
    ]
  }
})
