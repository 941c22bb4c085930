import { parseArgs } from "node:util"
import { createVitest } from "vitest/node"

/** Sends random requests to every route of the API: `--requests N --seed S`. */
const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "250000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) }
  }
})
process.env["FUZZ_REQUESTS"] = values.requests
process.env["FUZZ_SEED"] = values.seed

const vitest = await createVitest("test", { watch: false, run: true })
await vitest.start(["tests/http/Fuzz.test.ts"])
await vitest.close()
const tests = vitest.state.getTestModules().flatMap((module) => [...module.children.allTests()])
process.exitCode = tests.length > 0 && tests.every((test) => test.result().state === "passed") ? 0 : 1
