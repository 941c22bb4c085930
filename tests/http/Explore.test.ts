import { layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer, request, taskBody, ApiServer } from "../support/ApiServer.ts"
import { readFileSync } from "node:fs"
layer(apiServer())("explore", (it) => {
  it.effect("x", () => Effect.gen(function* () {
    const lines = JSON.parse(readFileSync("/tmp/explore.json", "utf8")) as ReadonlyArray<readonly [string, string, object?]>
    for (const [m, p, c] of lines) {
      const call = c as any
      if (call?.task) call.body = taskBody(call.task)
      const a = yield* request(m, p, call)
      process.stdout.write(`\n${m} ${p.slice(0,100)} ${JSON.stringify(call?.task ?? call?.body ?? call ?? null)?.slice(0,160)}\n   -> ${a.status} ${a.headers.get("allow") ?? ""} ${a.text.slice(0, 600)}\n`)
    }
  }), 60000)
})
