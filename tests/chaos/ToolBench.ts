import { Effect, type Scope } from "effect"
import type { ServerResponse } from "node:http"
import type { Chance } from "../simulation/Chance.ts"
import { give, type ToolRequest, type ToolServer, toolServer } from "../support/toolServer.ts"
import type { Record } from "./Record.ts"

/** The tools of a round. */
export interface ToolBench extends ToolServer {
  /** Calls of the tool that takes its worker along: they are never answered. */
  readonly deadly: ReadonlyArray<ToolRequest>
}

const oddities = ["hangs", "trickles", "garbage", "500", "30 MB", "cut off"] as const
const megabyte = Buffer.alloc(1_048_576, "x")

const misbehave = (oddity: (typeof oddities)[number], response: ServerResponse): void => {
  const head = (status: number) => response.writeHead(status, { "content-type": "application/json" })
  switch (oddity) {
    case "hangs":
      return
    case "trickles": {
      head(200)
      const drops = setInterval(() => response.write(" "), 200)
      response.once("close", () => clearInterval(drops))
      return
    }
    case "garbage":
      head(200).end('{"answer": 1')
      return
    case "500":
      head(500).end('{"error": "no"}')
      return
    case "30 MB": {
      head(200)
      let left = 30
      const more = () => {
        while (left-- > 0) if (!response.write(megabyte)) return void response.once("drain", more)
        response.end()
      }
      more()
      return
    }
    case "cut off":
      head(200).write('{"answer"')
      response.destroy()
  }
}

/**
 * Starts the tools: `probe.quick` and `probe.repeatable` answer at once, `probe.slow` takes its time, `probe.deadly` never answers.
 * `odd.any` and what `core.http` calls are often odd at the first call with a key. Every answer bears a number of its own.
 */
export const makeToolBench = (record: Record, chance: Chance): Effect.Effect<ToolBench, never, Scope.Scope> =>
  Effect.gen(function* () {
    const times = new Map<string, number>()
    const deadly: Array<ToolRequest> = []
    let answers = 0
    const server = yield* toolServer((call, response) => {
      const before = times.get(call.key) ?? 0
      times.set(call.key, before + 1)
      if (call.tool === "probe.deadly") return void deadly.push(call)
      const mayBeOdd = call.tool === "odd.any" || call.tool === "http"
      if (mayBeOdd && before === 0 && chance.maybe(0.3)) {
        const oddity = chance.pick(oddities)
        record.fault(`tool: ${oddity}`)
        return misbehave(oddity, response)
      }
      const answer = () => void give(call, response, { answer: ++answers })
      if (call.tool === "probe.slow") setTimeout(answer, chance.int(100, 1500))
      else answer()
    })
    return { ...server, deadly }
  })

/** Bodies of PUT /extensions/{name}, by name. */
export const extensionsOf = ({ url }: ToolBench) => ({
  probe: {
    kind: "http",
    base_url: url,
    tools: [
      { name: "quick" },
      { name: "slow" },
      { name: "repeatable", idempotent: true },
      { name: "deadly", timeout_seconds: 3600 }
    ]
  },
  odd: { kind: "http", base_url: url, tools: [{ name: "any" }] }
})
