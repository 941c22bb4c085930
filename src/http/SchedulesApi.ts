import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import { Instant } from "../domain/Instant.ts"
import { Upcoming } from "../domain/Occurrence.ts"
import { DstMark, ScheduleKind } from "../domain/ScheduleSpec.ts"
import { InvalidField } from "../domain/Task.ts"
import { InvalidSchedule } from "../domain/Timeline.ts"
import { TasksRead } from "./Auth.ts"
import { body } from "./Bounded.ts"
import { query } from "./Requests.ts"

/** Body of POST /schedules/preview; `after` is now when left out. What waits for events has no occurrences, and is read all the same. */
export const Preview = Schema.Struct({
  schedule_kind: ScheduleKind,
  schedule_expr: Schema.NonEmptyString.pipe(Schema.maxLength(4096)),
  timezone: Schema.optionalWith(Schema.NonEmptyString.pipe(Schema.maxLength(100)), { exact: true }),
  dtstart: Schema.optionalWith(Schema.String.pipe(Schema.maxLength(19)), { exact: true }),
  after: Schema.optionalWith(Instant, { exact: true }),
  count: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, 1000)), { exact: true, default: () => 5 })
}).annotations({ identifier: "Preview", parseOptions: { onExcessProperty: "error", errors: "all" } })

/** The next occurrences: `local` is wall time in the zone, `dst` what a clock change did to it. */
export const Previewed = Schema.Struct({
  occurrences: Schema.Array(Schema.Struct({ at: Instant, local: Schema.String, dst: DstMark })),
  description: Schema.String,
  dtstart: Schema.NullOr(Schema.String),
  timezone: Schema.String,
  tzdata: Schema.String
}).annotations({ identifier: "Previewed" })

/** What a schedule means, before a task bears it. */
export class SchedulesApi extends HttpApiGroup.make("schedules")
  .add(
    HttpApiEndpoint.post("preview", "/schedules/preview")
      .setPayload(body(Preview))
      .addSuccess(Previewed)
      .addError(InvalidSchedule)
      .middleware(TasksRead)
      .annotate(OpenApi.Summary, "See when a schedule would fire; nothing is stored")
  )
  .add(
    HttpApiEndpoint.get("upcoming", "/schedules/upcoming")
      .setUrlParams(
        query({
          from: Schema.optionalWith(Instant, { exact: true }),
          to: Schema.optionalWith(Instant, { exact: true })
        })
      )
      .addSuccess(Schema.Struct({ items: Schema.Array(Upcoming) }))
      .addError(InvalidField)
      .middleware(TasksRead)
      .annotate(
        OpenApi.Summary,
        "The fire times of all visible tasks in a window: a day from now when left out, the earliest 1,000"
      )
  ) {}
