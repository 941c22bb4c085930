import { defineConfig } from "vitest/config"

/** Tests that need no service: they run alone, at once, with `npx vitest run tests/domain`. */
const pure = [
  "tests/domain/**/*.test.ts",
  "tests/simulation/**/*.test.ts",
  "tests/architecture.test.ts",
  "tests/docs.test.ts"
]

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
