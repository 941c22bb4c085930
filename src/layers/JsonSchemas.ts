import { createRequire } from "node:module"
import { pathToFileURL } from "node:url"
import { Worker } from "node:worker_threads"
import { Context, Duration, Effect, Exit, Layer } from "effect"
import type { JsonObject, JsonValue, Problem } from "../domain/Json.ts"
import { SchemaRefused, schemaProblem } from "../domain/JsonSchema.ts"
import type { Answer, Question } from "./JsonSchemaThread.ts"

/** What a thread may take for one schema and one value. */
const deadline = Duration.seconds(2)
/** Threads of a process; each is started when it is first needed. */
const mostThreads = 2
/** Checks at once: fewer than threads, so that schemas of registrations never keep runs waiting. */
const mostChecks = 1
/** Heap of a thread: one that needs more is ended, the process goes on. */
const heapMegabytes = 256

/**
 * JSON Schema 2020-12 (and draft-07 where `$schema` says so), with patterns in RE2 syntax. Schemas of users are compiled and
 * applied in threads that are ended at a deadline of 2 s: neither can hold the event loop. A round trip takes some 60 µs.
 */
export class JsonSchemas extends Context.Tag("ordinaut/JsonSchemas")<
  JsonSchemas,
  {
    /** Whether a schema can be used: within the limits, valid, without remote references, compiled in time. */
    readonly check: (schema: JsonObject) => Effect.Effect<void, SchemaRefused>
    /** What is wrong with a value, at most 20 places, the first of a kind; nothing for one that is valid. */
    readonly validate: (schema: JsonObject, value: JsonValue) => Effect.Effect<ReadonlyArray<Problem>, SchemaRefused>
  }
>() {
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const idle: Array<Worker> = []
      const threads = yield* Effect.makeSemaphore(mostThreads)
      const checks = yield* Effect.makeSemaphore(mostChecks)
      yield* Effect.addFinalizer(() => Effect.forEach(idle.splice(0), end, { discard: true }))

      const take = Effect.suspend(() => {
        const free = idle.pop()
        // One that has ended by itself while it was idle bears this number.
        return free === undefined || free.threadId === -1 ? start : Effect.succeed(free)
      })

      const judge = Effect.fnUntraced(function* (schema: JsonObject, value: JsonValue | undefined) {
        const problem = schemaProblem(schema)
        if (problem !== undefined) return yield* new SchemaRefused(problem)
        const question = { schema: JSON.stringify(schema), value: value === undefined ? null : JSON.stringify(value) }
        const answer = yield* Effect.acquireUseRelease(
          take,
          (thread) => ask(thread, question),
          (thread, exit) => (Exit.isSuccess(exit) ? Effect.sync(() => idle.push(thread)) : end(thread))
        ).pipe(threads.withPermits(1))
        return answer.tag === "refused" ? yield* new SchemaRefused(answer.refusal) : answer.problems
      })

      return JsonSchemas.of({
        check: Effect.fn("JsonSchemas.check")(function* (schema) {
          yield* judge(schema, undefined).pipe(checks.withPermits(1))
        }),
        validate: Effect.fn("JsonSchemas.validate")(judge)
      })
    })
  )
}

const end = (thread: Worker) => Effect.promise(() => thread.terminate())

/** In the sources, Node itself reads no TypeScript: the thread is started by the loader that tests and scripts run on. */
const made = (): Worker => {
  const options = {
    resourceLimits: { maxOldGenerationSizeMb: heapMegabytes },
    execArgv: [],
    stdout: true,
    stderr: true
  }
  if (!import.meta.url.endsWith(".ts")) return new Worker(new URL("./JsonSchemaThread.js", import.meta.url), options)
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx/package.json"))
  const loader = JSON.stringify(new URL("./dist/esm/api/index.mjs", tsx).href)
  const source = JSON.stringify(new URL("./JsonSchemaThread.ts", import.meta.url).href)
  return new Worker(`import(${loader}).then(({ tsImport }) => tsImport(${source}, ${source}))`, {
    ...options,
    eval: true
  })
}

/** A thread that has said that it is ready: what loading takes is nobody's deadline. */
const start = Effect.async<Worker>((resume) => {
  const thread = made()
  thread.once("message", () => resume(Effect.succeed(thread)))
  // Stays for the thread's life: an error that nobody listens to would end the process.
  thread.on("error", (cause) => resume(Effect.die(cause)))
  return end(thread)
})

/** Fails, at the deadline or out of memory, for a thread that must be ended. Real time: it measures real work, whatever clock rules. */
const ask = (thread: Worker, question: Question) =>
  Effect.async<Answer, SchemaRefused>((resume) => {
    const finish = (answer: Effect.Effect<Answer, SchemaRefused>) => {
      clearTimeout(timer)
      thread.off("message", answered)
      thread.off("error", failed)
      resume(answer)
    }
    const refuse = (message: string) => finish(Effect.fail(new SchemaRefused({ path: "", message })))
    const timer = setTimeout(
      () => refuse(`takes longer than ${Duration.toSeconds(deadline)} s`),
      Duration.toMillis(deadline)
    )
    const answered = (answer: Answer) => finish(Effect.succeed(answer))
    const failed = (cause: Error) =>
      "code" in cause && cause.code === "ERR_WORKER_OUT_OF_MEMORY"
        ? refuse(`takes more than ${heapMegabytes} MiB of memory`)
        : finish(Effect.die(cause))
    thread.on("message", answered)
    thread.on("error", failed)
    thread.postMessage(question)
    return Effect.sync(() => clearTimeout(timer))
  })
