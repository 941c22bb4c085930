import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"

/** The database is away or did not answer in time; the same call may succeed in a moment. `retry_after` in seconds. */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()(
  "StoreUnavailable",
  { retry_after: Schema.Int },
  HttpApiSchema.annotations({ status: 503 })
) {}
