import { Agent, request } from "node:http"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Scope, TestServices } from "effect"
import { apiServer, ApiServer } from "../support/ApiServer.ts"

/** One request over a connection that is kept; answers its status, or 0 where the connection was closed. */
const send = (agent: Agent, url: string) =>
  new Promise<number>((resolve) => {
    const sent = request(url, { agent }, (response) => {
      response.resume()
      response.on("end", () => resolve(response.statusCode ?? 0))
    })
    sent.on("error", () => resolve(0))
    sent.end()
  })

it.effect(
  "a server that stops answers or closes every request, and does not wait for its clients",
  () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(apiServer(), scope)
      const { origin } = Context.get(context, ApiServer)
      let stopping = false
      let answered = 0
      const client = async () => {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 })
        for (let closed = false; !closed;) {
          const status = await send(agent, `${origin}/health`)
          answered++
          closed = stopping && status !== 200
        }
        agent.destroy()
      }
      const clients = Promise.all(Array.from({ length: 100 }, client))
      yield* TestServices.provideLive(Effect.sleep("300 millis"))
      stopping = true
      const started = performance.now()
      yield* TestServices.provideLive(Scope.close(scope, Exit.void))
      yield* TestServices.provideLive(
        Effect.timeout(
          Effect.promise(() => clients),
          "5 seconds"
        )
      )
      assert.isBelow(performance.now() - started, 8000)
      assert.isAbove(answered, 20)
    }),
  60_000
)
