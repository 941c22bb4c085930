import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { DateTime, Effect } from "effect"
import { compile, reading } from "../domain/ScheduleSpec.ts"
import { occurrences } from "../domain/Timeline.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import * as Settings from "../layers/Settings.ts"
import { Api } from "./Api.ts"

export const SchedulesHandlers = HttpApiBuilder.group(Api, "schedules", (handlers) =>
  Effect.gen(function* () {
    const defaultTimezone = yield* Settings.timezone
    const minIntervalSeconds = yield* Settings.minIntervalSeconds
    return handlers.handle("preview", ({ payload }) =>
      Effect.gen(function* () {
        const after = DateTime.toEpochMillis(payload.after ?? (yield* DateTime.now))
        const timezone = payload.timezone ?? defaultTimezone
        const schedule = yield* compile({
          kind: payload.schedule_kind,
          expr: payload.schedule_expr,
          timezone,
          dtstart: payload.dtstart ?? null,
          createdAt: after,
          minIntervalSeconds
        })
        return {
          occurrences: occurrences(schedule, after, payload.count).map((at) => {
            const { dst, local } = reading(schedule, at)
            return { at: DateTime.unsafeMake(at), local, dst }
          }),
          description: schedule.description,
          dtstart: schedule.dtstart,
          timezone,
          tzdata: tzdataVersion
        }
      })
    )
  })
)
