import { StepFailed } from "../domain/StepFailed.ts"
import { isStorable, type JsonValue, storable } from "../domain/Json.ts"
import { Either } from "effect"

/** Statuses of 400 to 499 that another attempt may change: too slow, too early, too many. */
const passing: ReadonlySet<number> = new Set([408, 425, 429])

const longestWait = 86_400

/** Dates of HTTP (RFC 9110 §5.6.7) in the form that is to be sent. */
const imfDate = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/

/** Seconds that `Retry-After` asks to wait from `now` (epoch milliseconds) on, at most a day; undefined where it does not tell. */
export const retryAfterSeconds = (value: string | undefined, now: number): number | undefined => {
  const text = value?.trim() ?? ""
  if (/^\d+$/.test(text)) return Math.min(longestWait, Number(text))
  const at = imfDate.test(text) ? Date.parse(text) : NaN
  return Number.isNaN(at) ? undefined : Math.min(longestWait, Math.max(0, Math.ceil((at - now) / 1000)))
}

/** The failure of an answer with a status that is not wanted. `now` is in epoch milliseconds. */
export const statusFailure = (status: number, headers: ReadonlyMap<string, string>, now: number): StepFailed => {
  if (status >= 300 && status <= 399)
    return StepFailed.of("target_forbidden", `the answer is ${status}; redirects are not followed`)
  if (status < 400) return StepFailed.of("tool_output_invalid", `the answer is ${status}, which is not expected`)
  const retryable = status >= 500 || passing.has(status)
  const wait = retryable ? retryAfterSeconds(headers.get("retry-after"), now) : undefined
  return new StepFailed({
    code: status >= 500 ? "tool_http_5xx" : "tool_http_4xx",
    message: `the answer is ${status}`,
    retryable,
    ...(wait === undefined ? {} : { retry_after_seconds: wait })
  })
}

const invalid = (message: string) => Either.left(StepFailed.of("tool_output_invalid", message))

/** Text of a body, in the charset of its content type, UTF-8 where that names none. Fails where it is no such text. */
export const textOf = (body: Uint8Array, contentType: string): Either.Either<string, StepFailed> => {
  const charset = /;\s*charset="?([^\s;"]+)/i.exec(contentType)?.[1] ?? "utf-8"
  try {
    return Either.right(new TextDecoder(charset, { fatal: true }).decode(body))
  } catch {
    return invalid(`the answer is not text in ${charset.slice(0, 40)}`)
  }
}

/** The JSON value of a text; keys such as `__proto__` are its own. Fails where it is none. */
export const parseJson = (text: string): Either.Either<unknown, StepFailed> =>
  Either.try({
    try: (): unknown => JSON.parse(text),
    catch: () => StepFailed.of("tool_output_invalid", "the answer is not JSON")
  })

/** A value as a step's output. Fails where it cannot be stored, with the place. */
export const asOutput = (value: unknown): Either.Either<JsonValue, StepFailed> => {
  if (isStorable(value)) return Either.right(value)
  const problem = storable(value)
  return invalid(`the output cannot be stored: ${problem?.path ?? ""}: ${problem?.message ?? ""}`)
}
