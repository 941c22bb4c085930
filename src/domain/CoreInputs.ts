import { Either, Schema } from "effect"
import { coreHttpProblems } from "./CoreHttp.ts"
import { isReserved, parsePattern, Topic } from "./Event.ts"
import { isId } from "./Id.ts"
import { parseInstant } from "./Instant.ts"
import { compile } from "./JmesPath.ts"
import { isArray, isObject, type JsonObject, type JsonValue, pointer, type Problem } from "./Json.ts"
import { longestWaitSeconds } from "./PipelineSpec.ts"

/** A field of a core tool's input: whether it must be there, and what it must be. */
interface Field {
  readonly required?: true
  readonly expected?: string
  readonly is?: (value: JsonValue) => boolean
  /** Whether it is an array or object of which parts may not be known yet. */
  readonly parts?: true
}

interface CoreInput {
  readonly fields: Readonly<Record<string, Field>>
  /** Of these fields exactly one is there. */
  readonly oneOf?: readonly [string, string]
}

/** Levels of `core.log`, from the least to the most urgent. */
export const logLevels = ["debug", "info", "warn", "error"] as const

/** See the list of the same name. */
export type LogLevel = (typeof logLevels)[number]

const oneOf = (...allowed: ReadonlyArray<string>): Field => ({
  expected: `one of ${allowed.join(", ")}`,
  is: (value) => typeof value === "string" && allowed.includes(value)
})
const truth: Field = { expected: "true or false", is: (value) => typeof value === "boolean" }
const text: Field = { expected: "a text", is: (value) => typeof value === "string" }
const object: Field = { expected: "an object", is: (value) => isObject(value) }
const needed = (field: Field): Field => ({ ...field, required: true })

const isTopic = Schema.is(Topic)
const inputs: ReadonlyMap<string, CoreInput> = new Map<string, CoreInput>([
  [
    "wait",
    {
      fields: {
        seconds: {
          expected: `a number from 0 to ${longestWaitSeconds}`,
          is: (value) => typeof value === "number" && value >= 0 && value <= longestWaitSeconds
        },
        until: {
          expected: "an RFC 3339 instant",
          is: (value) => typeof value === "string" && parseInstant(value) !== undefined
        }
      },
      oneOf: ["seconds", "until"]
    }
  ],
  [
    "approval",
    {
      fields: {
        message: { required: true },
        data: {},
        approvers: {
          parts: true,
          expected: "an array of agent names",
          is: (value) =>
            isArray(value) && value.length <= 100 && value.every((one) => typeof one === "string" && one !== "")
        },
        on_expire: oneOf("fail", "reject"),
        fail_on_reject: truth
      }
    }
  ],
  [
    "wait_event",
    {
      fields: {
        topic: needed({
          expected: "a topic, or a pattern of topics, not below ordinaut",
          is: (value) => typeof value === "string" && Either.isRight(parsePattern(value)) && !isReserved(value)
        }),
        if: {
          expected: "JMESPath over event",
          is: (value) => typeof value === "string" && Either.isRight(compile(value))
        }
      }
    }
  ],
  [
    "emit",
    {
      fields: {
        topic: needed({
          expected: "a topic of words joined by dots, not below ordinaut",
          is: (value) => isTopic(value) && !isReserved(value)
        }),
        payload: { required: true }
      }
    }
  ],
  [
    "run_task",
    {
      fields: {
        task_id: needed({ expected: "the id of a task", is: (value) => typeof value === "string" && isId(value) }),
        params: object,
        wait: truth
      }
    }
  ],
  [
    "transform",
    {
      fields: { value: {}, expression: { ...text, expected: "a JMESPath text" } },
      oneOf: ["value", "expression"]
    }
  ],
  ["log", { fields: { message: { required: true }, level: oneOf(...logLevels), data: {} } }],
  ["fail", { fields: { message: { required: true }, retryable: truth } }]
])

/** Names of the tools of namespace `core`, without the namespace. */
export const coreToolNames: ReadonlyArray<string> = ["http", ...inputs.keys()]

/** Core tools that wait for others, and take `expires_seconds`; `run_task` only where it is told to wait. */
export const waitingCoreTools: ReadonlySet<string> = new Set(["approval", "wait_event", "run_task"])

/**
 * What is wrong with the input of a core tool, with JSON Pointers from the input on. `isOpen` says of a value that it is
 * not known yet, as a template is not before the run; such a value passes. Nothing is known of a tool that does not exist.
 */
export const coreInputProblems = (
  tool: string,
  input: JsonValue,
  isOpen: (value: JsonValue) => boolean
): ReadonlyArray<Problem> => {
  const known = inputs.get(tool)
  if (known === undefined && tool !== "http") return []
  if (!isObject(input)) {
    // The expression of a transform is read at creation, so that it cannot come out of a template.
    if (isOpen(input) && tool !== "transform") return []
    return [{ path: "", message: `the input of core.${tool} must be an object` }]
  }
  return known === undefined
    ? coreHttpProblems(input, isOpen)
    : [...fieldProblems(tool, known, input, isOpen), ...choiceProblems(tool, known, input)]
}

const fieldProblems = (
  tool: string,
  { fields }: CoreInput,
  input: JsonObject,
  isOpen: (value: JsonValue) => boolean
): ReadonlyArray<Problem> => {
  const names = Object.keys(fields)
  const wrong = Object.entries(input).flatMap(([key, value]): ReadonlyArray<Problem> => {
    const field = Object.hasOwn(fields, key) ? fields[key] : undefined
    const path = pointer([key])
    if (field === undefined) return [{ path, message: `core.${tool} takes ${names.join(", ")}` }]
    if (field.is === undefined || field.is(value) || isOpen(value)) return []
    if (field.parts === true && holdsOpen(value, isOpen)) return []
    return [{ path, message: `this must be ${field.expected}` }]
  })
  const missing = names
    .filter((key) => fields[key]?.required === true && !Object.hasOwn(input, key))
    .map((key) => ({ path: pointer([key]), message: `core.${tool} needs this` }))
  return [...wrong, ...missing]
}

const choiceProblems = (tool: string, { oneOf: choice }: CoreInput, input: JsonObject): ReadonlyArray<Problem> => {
  if (choice === undefined) return []
  const [one, other] = choice
  return Object.hasOwn(input, one) === Object.hasOwn(input, other)
    ? [{ path: "", message: `core.${tool} takes ${one} or ${other}, one of the two` }]
    : []
}

/** Whether a value, or what it holds directly or below, is not known yet. */
const holdsOpen = (value: JsonValue, isOpen: (value: JsonValue) => boolean): boolean =>
  isOpen(value) ||
  (typeof value === "object" && value !== null && Object.values(value).some((held) => holdsOpen(held, isOpen)))
