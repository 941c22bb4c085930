import { assert, layer } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { History } from "../../src/layers/History.ts"
import { apiServer, member, refusal } from "../support/ApiServer.ts"
import { fuzzTarget } from "../support/fuzzTarget.ts"
import { mutations, owner } from "../support/mutations.ts"
import { served } from "../support/openApi.ts"
import { randomRequests } from "../support/randomRequests.ts"

/** `npm run fuzz` sets these. */
const wanted = Number(process.env["FUZZ_REQUESTS"] ?? 50_000)
const seed = Number(process.env["FUZZ_SEED"] ?? 20_261_124)

/** Requests at once: as many as keep the server busy. */
const atOnce = 16
/** Ids of one kind that are remembered. */
const mostIds = 100
/** The heap is compared with what it was after this part: caches are full by then. */
const warm = 0.3
/** MiB. A leak of 1 KiB a request is 34 MiB in 35,000 of them. */
const mostGrowth = 20

layer(apiServer())("random requests of every route", (it) => {
  it.scoped(
    `never end in a 500, refuse by problem documents, and leave nothing in the memory (${wanted} requests, seed ${seed})`,
    () =>
      Effect.gen(function* () {
        // The program has a clock of its own.
        yield* TestClock.setTime(Date.now())
        yield* (yield* History).prepare
        const target = yield* fuzzTarget(atOnce)
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
        let left = 0
        const requests = randomRequests(routes, document.components.schemas, seed)

        const one = Effect.gen(function* () {
          const { value: make } = requests.next()
          if (make === undefined) return
          const request = make(pools)
          const answer = yield* target.send(by.key, request)
          if (answer === undefined) {
            left++
            return
          }
          const told = () =>
            `${request.method} ${request.path} ${JSON.stringify(request.headers)} ${request.body?.slice(0, 2000)} -> ${answer.status} ${answer.text.slice(0, 300)}`
          if (answer.status >= 500) assert.fail(`${told()}\n${yield* target.logOf(answer.headers.get("x-request-id"))}`)
          if (answer.headers.get("x-request-id") === null) assert.fail(told())
          if (answer.headers.get("x-content-type-options") !== "nosniff") assert.fail(told())
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
              Effect.whileLoop({ while: () => sent < count && ++sent > 0, body: () => one, step: () => undefined })
            ),
            { concurrency: atOnce }
          )

        yield* upTo(Math.floor(wanted * warm))
        const before = yield* target.heap
        yield* upTo(wanted)
        const growth = (yield* target.heap) - before
        const settled = [...statuses.values()].reduce((sum, count) => sum + count, 0)
        const some = (...list: ReadonlyArray<number>) =>
          list.reduce((sum, status) => sum + (statuses.get(status) ?? 0), 0)
        const summary = JSON.stringify(Object.fromEntries([...statuses].sort(([a], [b]) => a - b)))
        process.stdout.write(
          `${settled} answers to ${sent} requests, seed ${seed}: ${summary}; ${left} left; heap ${before.toFixed(0)} MiB, ${growth.toFixed(1)} more\n`
        )
        assert.strictEqual(settled + left, wanted)
        assert.isBelow(left, wanted / 50)
        assert.isBelow(growth, mostGrowth)
        assert.isAbove(some(422), wanted / 20)
        assert.isAbove(some(404), wanted / 50)
        assert.isAbove(some(200, 201, 202, 204), wanted / 20)
        assert.isAbove(answeredRoutes.size, 20)
      }),
    Math.max(180_000, wanted * 10)
  )
})
