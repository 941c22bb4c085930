import { Schema } from "effect"
import { JsonObject, JsonValue } from "./Json.ts"
import { ErrorCode } from "./StepFailed.ts"

/**
 * What a run waits for: an external worker's answer (`tool`), a decision, a time, an event, or a run that it started. A pause
 * before a step is called again is a `wait`, too.
 */
export const WaitKind = Schema.Literal("tool", "approval", "wait", "event", "child")
export type WaitKind = typeof WaitKind.Type

/** How what was waited for came out. */
export const WaitResult = Schema.Union(
  Schema.Struct({ output: JsonValue }),
  Schema.Struct({ error: Schema.Struct({ code: ErrorCode, message: Schema.String, retryable: Schema.Boolean }) })
)
export type WaitResult = typeof WaitResult.Type

/**
 * What is waited for, by kind; besides, every one has `attempt`, the run's attempt that began it, and `call`, the how many-th
 * call of its step in that attempt it stands for. `pause` marks the pause before the next call.
 */
export const WaitDetail = JsonObject

/** Something that an unfinished run waits for. Instants are epoch milliseconds; `item` is -1 outside of a for_each. */
export interface Wait {
  readonly step_id: string
  readonly item: number
  readonly kind: WaitKind
  readonly detail: JsonObject
  readonly expires_at: number | null
  /** Null until it has come. */
  readonly result: WaitResult | null
}

/** A wait that begins. */
export interface NewWait extends Omit<Wait, "result"> {
  readonly id: string
  /** Address of the tool, or the topic; what those who answer look for. */
  readonly tool: string | null
}

/** Answer to a wait, by the id of its row. */
export interface Answer {
  readonly id: string
  readonly result: WaitResult
}

/** The key of a call: of a step, or of one of the elements that it runs over. */
export const callKey = ({ item, step_id }: { readonly step_id: string; readonly item: number }): string =>
  `${step_id}:${item}`
