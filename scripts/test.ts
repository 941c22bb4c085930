import { createVitest, type TestCase, type TestModule } from "vitest/node"

/** A file or a group whose hook or import failed counts as one failure of its own: its tests never ran. */
const brokenHooks = (module: TestModule) =>
  [module, ...module.children.allSuites()].reduce((sum, each) => sum + (each.errors().length > 0 ? 1 : 0), 0)

/** Arguments are file filters and, after `-t`, a pattern of test names. */
const parse = (args: ReadonlyArray<string>) => {
  const at = args.indexOf("-t")
  return at < 0
    ? { filters: [...args], options: {} }
    : { filters: args.filter((_, i) => i !== at && i !== at + 1), options: { testNamePattern: args[at + 1] ?? "" } }
}

const { filters, options } = parse(process.argv.slice(2))
const vitest = await createVitest("test", { ...options, watch: false, run: true })
const broken: Array<unknown> = []
try {
  await vitest.start(filters)
  broken.push(...vitest.state.getUnhandledErrors())
} catch (cause) {
  console.error(cause)
  broken.push(cause)
}
await vitest.close()

const modules = vitest.state.getTestModules()
const tests: ReadonlyArray<TestCase> = modules.flatMap((module) => [...module.children.allTests()])
const count = (state: string) => tests.filter((test) => test.result().state === state).length
const passed = count("passed")
const failed = count("failed") + modules.reduce((sum, module) => sum + brokenHooks(module), 0) + broken.length
const skipped = tests.length - passed - count("failed")
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`)
