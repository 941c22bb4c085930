import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { ApiServer, apiServer, member, refusal } from "../support/ApiServer.ts"
import { mutations, owner } from "../support/mutations.ts"
import { served } from "../support/openApi.ts"
import { randomRequests } from "../support/randomRequests.ts"
import type { RandomRequest } from "../support/randomRequests.ts"

/** `npm run fuzz` sets these. */
const wanted = Number(process.env["FUZZ_REQUESTS"] ?? 5000)
const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_124)

/** Requests at once: as many as keep the server busy. */
const atOnce = 8
/** Ids of one kind that are remembered. */
const mostIds = 100

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

const heap = Effect.promise(async () => {
  for (let i = 0; i < 3; i++) {
    collect()
    await new Promise((next) => setTimeout(next, 20))
  }
  return process.memoryUsage().heapUsed / 2 ** 20
})

/** Sends a request as it is; a stream is left after its head. */
const send = (origin: string, key: string, { body, headers, method, path }: RandomRequest) =>
  Effect.promise(async () => {
    const answer = await fetch(`${origin}${path}`, {
      method,
      redirect: "manual",
      headers: { authorization: `Bearer ${key}`, ...headers },
      ...(body === undefined || method === "GET" || method === "HEAD" ? {} : { body })
    })
    const isStream = answer.headers.get("content-type") === "text/event-stream"
    if (isStream) await answer.body?.cancel()
    const text = isStream ? "" : await answer.text()
    let json: unknown
    try {
      json = JSON.parse(text)
    } catch {
      json = undefined
    }
    return { status: answer.status, headers: answer.headers, text, body: json }
  })

layer(apiServer([["STREAMS_AGENT", "1000"]]))("random requests of every route", (it) => {
  it.effect(
    `never end in a 500, refuse by problem documents, and leave nothing in the memory (${wanted} requests, seed ${seed})`,
    () =>
      Effect.gen(function* () {
        const { origin } = yield* ApiServer
        const { document, routes } = yield* served
        const by = yield* owner("fuzzer")
        const { actor } = yield* member("target", ["tasks:*"])
        const pools = new Map<string, Array<string>>([["agents", [actor.id]]])
        const learn = (kind: string, id: unknown) => {
          if (typeof id === "string") pools.set(kind, [...(pools.get(kind) ?? []), id].slice(-mostIds))
        }
        // Something of everything, so that what comes after the look for it is reached.
        for (const [n, prepare] of Object.values(mutations).entries()) {
          const { path } = yield* prepare(by, n)
          const parts = path.split("/")
          if (parts.length > 2) learn(parts[1] ?? "", parts[2])
          if (parts.length > 4) learn(parts[3] ?? "", parts[4])
        }
        const statuses = new Map<number, number>()
        const answeredRoutes = new Set<string>()
        let sent = 0
        const requests = randomRequests(routes, document.components.schemas, seed)

        const one = Effect.gen(function* () {
          const { value: make } = requests.next()
          if (make === undefined) return
          const request = make(pools)
          const answer = yield* send(origin, by.key, request)
          const told = `${request.method} ${request.path} ${JSON.stringify(request.headers)} ${request.body?.slice(0, 2000)} -> ${answer.status} ${answer.text.slice(0, 300)}`
          assert.isBelow(answer.status, 500, told)
          assert.isNotNull(answer.headers.get("x-request-id"), told)
          assert.strictEqual(answer.headers.get("x-content-type-options"), "nosniff", told)
          if (answer.status >= 400 && request.method !== "HEAD") refusal(answer)
          statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
          if (answer.status < 300) {
            const [, kind = ""] = request.path.split(/[/?]/)
            answeredRoutes.add(`${request.method} ${kind}`)
            learn(kind, Object(answer.body).id)
            learn("runs", Object(answer.body).run_id)
            learn("backfills", Object(answer.body).backfill_id)
          }
        })
        const upTo = (count: number) =>
          Effect.all(
            Array.from({ length: atOnce }, () =>
              Effect.whileLoop({ while: () => sent++ < count, body: () => one, step: () => undefined })
            ),
            { concurrency: atOnce }
          )

        yield* upTo(Math.floor(wanted / 2))
        const before = yield* heap
        sent = Math.floor(wanted / 2)
        yield* upTo(wanted)
        const settled = [...statuses.values()].reduce((sum, count) => sum + count, 0)
        const growth = (yield* heap) - before

        const some = (...list: ReadonlyArray<number>) =>
          list.reduce((sum, status) => sum + (statuses.get(status) ?? 0), 0)
        const summary = JSON.stringify(Object.fromEntries([...statuses].sort(([a], [b]) => a - b)))
        process.stdout.write(
          `${settled} requests, seed ${seed}: ${summary}; heap ${before.toFixed(0)} MiB, ${growth.toFixed(1)} more\n`
        )
        assert.isAtLeast(settled, wanted)
        assert.isBelow(growth, 25)
        assert.isAbove(some(422), wanted / 20)
        assert.isAbove(some(404), wanted / 50)
        assert.isAbove(some(200, 201, 202, 204), wanted / 20)
        assert.isAbove(answeredRoutes.size, 20)
      }),
    Math.max(60_000, wanted * 40)
  )
})
