import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { DateTime, Effect } from "effect"
import { reading } from "../domain/ScheduleSpec.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import { occurrences } from "../domain/Timeline.ts"
import { tzdataVersion } from "../domain/Zone.ts"
import { Occurrences } from "../layers/Occurrences.ts"
import * as Settings from "../layers/Settings.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"

export const SchedulesHandlers = HttpApiBuilder.group(Api, "schedules", (handlers) =>
  Effect.gen(function* () {
    const defaultTimezone = yield* Settings.timezone
    const minIntervalSeconds = yield* Settings.minIntervalSeconds
    const upcoming = yield* Occurrences
    return handlers
      .handle("upcoming", ({ urlParams }) =>
        Effect.gen(function* () {
          const from = urlParams.from ?? (yield* DateTime.now)
          const to = urlParams.to ?? DateTime.add(from, { days: 1 })
          const agent = yield* CurrentAgent
          return { items: yield* upcoming.upcoming(agent, DateTime.toEpochMillis(from), DateTime.toEpochMillis(to)) }
        })
      )
      .handle("preview", ({ payload }) =>
        Effect.gen(function* () {
          const after = DateTime.toEpochMillis(payload.after ?? (yield* DateTime.now))
          const timezone = payload.timezone ?? defaultTimezone
          const plan = yield* TaskSchedule.read({
            kind: payload.schedule_kind,
            expr: payload.schedule_expr,
            timezone,
            dtstart: payload.dtstart ?? null,
            createdAt: after,
            startsAt: null,
            endsAt: null,
            minIntervalSeconds
          })
          const schedule = plan._tag === "Timed" ? plan.schedule : null
          return {
            occurrences:
              schedule === null
                ? []
                : occurrences(schedule, after, payload.count).map((at) => {
                    const { dst, local } = reading(schedule, at)
                    return { at: DateTime.unsafeMake(at), local, dst }
                  }),
            description: schedule?.description ?? TaskSchedule.describe(plan),
            dtstart: schedule?.dtstart ?? null,
            timezone,
            tzdata: tzdataVersion
          }
        })
      )
  })
)
