import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { Either, Schema } from "effect"
import { Instant } from "./Instant.ts"
import { JsonValue } from "./Json.ts"

const word = /^[A-Za-z0-9_-]+$/

/** Words of letters, digits, `_` and `-`, joined by dots; at most 200 characters. */
export const Topic = Schema.String.pipe(
  Schema.maxLength(200),
  Schema.pattern(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/),
  Schema.annotations({ message: () => "is a topic of words joined by dots, such as orders.created" })
)

/** Runs and events that may lead to a run, each by the one before it. */
export const mostHops = 16

/** Topics of the product's own state changes; nobody else may publish on them. */
export const isReserved = (topic: string): boolean => topic === "ordinaut" || topic.startsWith("ordinaut.")

/** Body of POST /events. */
export const EventCreate = Schema.Struct({
  topic: Topic,
  payload: JsonValue,
  dedupe_key: Schema.optionalWith(Schema.NonEmptyString.pipe(Schema.maxLength(200)), { exact: true })
}).annotations({ identifier: "EventCreate", parseOptions: { onExcessProperty: "error", errors: "all" } })
export type EventCreate = typeof EventCreate.Type

export const TriggeredRun = Schema.Struct({ task_id: Schema.String, run_id: Schema.String })

/** Answer of POST /events. */
export const EventAccepted = Schema.Struct({
  event_id: Schema.String,
  triggered_runs: Schema.Array(TriggeredRun)
}).annotations({ identifier: "EventAccepted" })
export type EventAccepted = typeof EventAccepted.Type

/** An accepted event; `stream_id` is null until it is on the stream. */
export class Event extends Schema.Class<Event>("Event")({
  id: Schema.String,
  topic: Schema.String,
  payload: JsonValue,
  published_by: Schema.NullOr(Schema.String),
  at: Instant,
  stream_id: Schema.NullOr(Schema.String),
  triggered_runs: Schema.Array(TriggeredRun)
}) {}

/** An event, or a change of state, as tasks hear it. */
export interface HeardEvent {
  readonly id: string
  readonly topic: string
  readonly payload: JsonValue
  /** Epoch milliseconds. */
  readonly at: number
  /** How many runs and events led to it, each by the one before it. */
  readonly hops: number
  readonly traceparent: string | null
}

/** A topic that something was said on, with the tasks that hear it. */
export const TopicSeen = Schema.Struct({
  topic: Schema.String,
  last_at: Instant,
  last_event_id: Schema.String,
  tasks: Schema.Array(Schema.Struct({ id: Schema.String, title: Schema.String, schedule_kind: Schema.String }))
}).annotations({ identifier: "TopicSeen" })
export type TopicSeen = typeof TopicSeen.Type

/** No such event in the agent's namespace. */
export class EventNotFound extends Schema.TaggedError<EventNotFound>()(
  "EventNotFound",
  { event_id: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** A topic pattern: `*` stands for one word, `**`, wherever it is, for any number of them. */
export interface TopicPattern {
  readonly words: ReadonlyArray<string>
}

/** Reads a topic pattern; the Left says in words what is wrong. */
export const parsePattern = (text: string): Either.Either<TopicPattern, string> => {
  if (text.length > 200) return Either.left("a topic pattern has at most 200 characters")
  const words = text.split(".")
  const wrong = words.find((part) => part !== "*" && part !== "**" && !word.test(part))
  if (wrong !== undefined) {
    return Either.left(
      `\`${wrong}\` is no word of a topic pattern: letters, digits, _ and -, or * for one word, ** for the rest`
    )
  }
  return words.filter((part) => part === "**").length > 1
    ? Either.left("a topic pattern has at most one **")
    : Either.right({ words })
}

/** Whether a topic matches; `ordinaut.…` topics match only patterns whose first word says so. */
export const matches = (pattern: TopicPattern, topic: string): boolean => {
  const words = topic.split(".")
  if (words[0] === "ordinaut" && pattern.words[0] !== "ordinaut") return false
  const rest = pattern.words.indexOf("**")
  const same = (part: string | undefined, at: string | undefined) => part === "*" || part === at
  if (rest < 0) return words.length === pattern.words.length && pattern.words.every((part, i) => same(part, words[i]))
  const tail = pattern.words.slice(rest + 1)
  return (
    words.length >= rest + tail.length &&
    pattern.words.slice(0, rest).every((part, i) => same(part, words[i])) &&
    tail.every((part, i) => same(part, words[words.length - tail.length + i]))
  )
}
