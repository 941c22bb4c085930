import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Schema } from "effect"
import type { JsonValue } from "./Json.ts"

/** A request that bears an `Idempotency-Key`. */
export interface KeyedRequest {
  readonly agent_id: string
  readonly key: string
  /** Method and path: a key belongs to one route. */
  readonly route: string
  readonly body: JsonValue
}

/** What a request was answered, as it can be given again. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Null where there is none. */
  readonly body: string | null
}

/** The key was used for another request within 24 h. */
export class IdempotencyKeyReused extends Schema.TaggedError<IdempotencyKeyReused>()(
  "IdempotencyKeyReused",
  { key: Schema.String },
  HttpApiSchema.annotations({ status: 422 })
) {}

/** The first request with the key goes on for longer than a repeat waits; `retry_after` is in seconds. */
export class IdempotencyKeyInUse extends Schema.TaggedError<IdempotencyKeyInUse>()(
  "IdempotencyKeyInUse",
  { key: Schema.String, retry_after: Schema.Int },
  HttpApiSchema.annotations({ status: 409 })
) {}
