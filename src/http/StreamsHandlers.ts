import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { DateTime, Effect } from "effect"
import type { Run } from "../domain/Run.ts"
import { InvalidField } from "../domain/Task.ts"
import { EventStream } from "../layers/EventStream.ts"
import { LogTail } from "../layers/LogTail.ts"
import { Runs } from "../layers/Runs.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import * as Changes from "./Changes.ts"
import * as Follower from "./Follower.ts"
import { BadRequest } from "./Requests.ts"
import { mediaType } from "./StreamsApi.ts"
import * as StreamSlots from "./StreamSlots.ts"

const form = /^\d{1,15}$/

/** The number behind which a client wants to go on; null where it names none. */
const lastEventId = (parameter: string | undefined) =>
  Effect.gen(function* () {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const header = headers["last-event-id"] ?? ""
    if (header !== "") {
      if (form.test(header)) return Number(header)
      return yield* new BadRequest({
        status: 400,
        code: "invalid_header",
        detail: "Last-Event-ID takes the id of an event of the stream, a number"
      })
    }
    if (parameter === undefined) return null
    return form.test(parameter)
      ? Number(parameter)
      : yield* new InvalidField({
          path: "query.last_event_id",
          message: "is no id of an event of the stream, a number"
        })
  })

const headers = { "x-accel-buffering": "no", connection: "close" }

export const StreamsHandlers = HttpApiBuilder.group(Api, "streams", (handlers) =>
  Effect.gen(function* () {
    const tail = yield* LogTail
    const log = yield* EventStream
    const runs = yield* Runs
    const take = yield* StreamSlots.make
    const watch = yield* Follower.watching

    /** Opens a stream behind a number, or from now on. */
    const open = Effect.fnUntraced(function* <E>(after: number | null, find: Effect.Effect<Run | null, E>) {
      yield* take((yield* CurrentAgent).id)
      yield* tail.following
      const { newest, oldest } = yield* log.bounds
      const lost = after !== null && (after > newest || after < oldest - 1)
      const behind = after === null || lost ? newest : after
      // What is read now is at least as new as what the stream begins behind.
      const found = yield* find
      const resumes = after !== null && !lost
      if (resumes && found !== null && found.finished_at !== null) {
        const end = { id: found.id, state: found.state, at: DateTime.toDateUtc(found.finished_at) }
        // The client had the end: this answer keeps an EventSource from coming back for ever (HTML standard §9.2.3).
        if (!(yield* log.tellsEnd(end, behind))) return HttpServerResponse.empty({ status: 204 })
      }
      const start = { behind, lost, run: found?.id ?? null, present: resumes ? null : found }
      return HttpServerResponse.stream(Changes.follow(tail, yield* watch, start), { contentType: mediaType, headers })
    })

    return handlers
      .handle("all", ({ urlParams }) =>
        Effect.flatMap(lastEventId(urlParams.last_event_id), (after) => open(after, Effect.succeed(null)))
      )
      .handle("run", ({ path, urlParams }) =>
        Effect.gen(function* () {
          const after = yield* lastEventId(urlParams.last_event_id)
          return yield* open(after, runs.get(yield* CurrentAgent, path.id))
        })
      )
  })
)
