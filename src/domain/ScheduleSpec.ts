import { Either, Schema } from "effect"
import * as Cron from "./Cron.ts"
import * as Recurrence from "./Recurrence.ts"
import { InvalidSchedule, occurrences } from "./Timeline.ts"
import type { Timeline } from "./Timeline.ts"
import * as Zone from "./Zone.ts"

/** How a task is scheduled. `event` and `condition` have no timeline. */
export const ScheduleKind = Schema.Literal("cron", "rrule", "once", "event", "condition")
export type ScheduleKind = typeof ScheduleKind.Type

/**
 * What the clock did to an occurrence: `gap`, the reading the schedule names does not exist that day and was shifted;
 * `overlap`, the reading happens twice that day; null, nothing.
 */
export const DstMark = Schema.NullOr(Schema.Literal("gap", "overlap"))
export type DstMark = typeof DstMark.Type

/** What a schedule is compiled from. */
export interface CompileInput {
  readonly kind: "cron" | "rrule" | "once"
  /** At most 4,096 characters. */
  readonly expr: string
  /** IANA name. */
  readonly timezone: string
  /** Start, local wall time `YYYY-MM-DDTHH:MM:SS`; for `rrule` only, others ignore it. */
  readonly dtstart: string | null
  /** Instant of creation; in a preview the instant from which it looks on. */
  readonly createdAt: number
  /** Refuse occurrences closer to each other than this, in seconds. Default: no limit. */
  readonly minIntervalSeconds?: number
  /** The end of a rule with COUNT as computed before with the same zone data; spares computing it again. */
  readonly countEnd?: number | null
}

/** A schedule ready to be asked. */
export interface CompiledSchedule extends Timeline {
  readonly zone: Zone.Zone
  /** The start that holds, local wall time; null unless the kind is `rrule`. */
  readonly dtstart: string | null
  /** The instant of the COUNT-th firing, worth storing; null for a schedule without COUNT. */
  readonly countEnd: number | null
  /** A sentence in words. */
  readonly description: string
  /** What the clock did to the occurrence at this instant. */
  readonly dst: (at: number) => DstMark
}

/** One occurrence as a preview shows it: the instant, and its wall time `YYYY-MM-DDTHH:MM:SS` in the schedule's zone. */
export interface Reading {
  readonly at: number
  readonly local: string
  readonly dst: DstMark
}

const LONGEST = 4096

/** What a jitter or a snooze moves must still be an instant with a year of four digits. */
const latest = Date.UTC(9999, 0, 1)

/** Closeness is judged by this many gaps between the first occurrences. */
const JUDGED_GAPS = 200

const refuse = (code: InvalidSchedule["code"], field: string, message: string): Either.Either<never, InvalidSchedule> =>
  Either.left(new InvalidSchedule({ code, field, message }))

const marker =
  (zone: Zone.Zone, asksFor: (local: number) => boolean) =>
  (at: number): DstMark => {
    const local = Zone.toLocal(zone, at)
    if (!asksFor(local)) return "gap"
    return Zone.instantsOf(zone, local).length > 1 ? "overlap" : null
  }

const oneTime = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d)?(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?$/

/** A one-time schedule: an instant written with Z or an offset, else the local reading of the zone. Seconds are optional. */
const once = (expr: string, zone: Zone.Zone): Either.Either<CompiledSchedule, InvalidSchedule> => {
  const [, date = "", time = "", seconds = ":00", fraction = "0", offset = ""] =
    oneTime.exec(expr.trim().toUpperCase()) ?? []
  const local = Zone.parseLocal(`${date}T${time}${seconds}`)
  const [hours = 0, minutes = 0] = offset.slice(1).split(":").map(Number)
  if (local === undefined || hours > 23 || minutes > 59) {
    return refuse(
      "invalid_schedule",
      "schedule_expr",
      `"${expr}" is no real date and time (2024-03-10T02:30, 2024-03-10T02:30:00Z, 2024-03-10T02:30:00+02:00)`
    )
  }
  const reading = local + Number(fraction.padEnd(3, "0").slice(0, 3))
  const east = offset.startsWith("-") ? -1 : 1
  const only =
    offset === ""
      ? Zone.resolve(zone, reading)
      : reading - (offset === "Z" ? 0 : east * (hours * 60 + minutes) * 60_000)
  if (only < 0 || only >= latest)
    return refuse("invalid_schedule", "schedule_expr", `"${expr}" lies outside the years 1970 to 9998`)
  const asked = offset === "" ? reading : Zone.toLocal(zone, only)
  return Either.right({
    zone,
    dtstart: null,
    countEnd: null,
    description: `once, at ${Zone.formatLocal(Zone.toLocal(zone, only))}`,
    next: (after) => (only > after ? only : null),
    dst: marker(zone, (candidate) => candidate === asked)
  })
}

const rrule = (input: CompileInput, zone: Zone.Zone): Either.Either<CompiledSchedule, InvalidSchedule> => {
  const dtstart = input.dtstart === null ? null : Zone.parseLocal(input.dtstart)
  if (dtstart === undefined) {
    return refuse("invalid_schedule", "dtstart", `"${input.dtstart}" is no real local time YYYY-MM-DDTHH:MM:SS`)
  }
  const options = { zone, dtstart, createdAt: input.createdAt, countEnd: input.countEnd ?? null }
  return Either.map(Recurrence.parse(input.expr, options), (recurrence) => ({
    zone,
    dtstart: Zone.formatLocal(recurrence.dtstart),
    countEnd: recurrence.countEnd,
    get description() {
      return recurrence.description
    },
    next: recurrence.next,
    dst: marker(zone, recurrence.asksFor)
  }))
}

const cron = (expr: string, zone: Zone.Zone): Either.Either<CompiledSchedule, InvalidSchedule> =>
  Either.map(Cron.parse(expr, zone), ({ next, asksFor, description }) => ({
    zone,
    dtstart: null,
    countEnd: null,
    description,
    next,
    dst: marker(zone, asksFor)
  }))

/** Whether two of the first occurrences from `after` on are less than `seconds` apart. */
const tooFrequent = (schedule: Timeline, after: number, seconds: number): boolean => {
  const first = occurrences(schedule, after, JUDGED_GAPS + 1)
  return first.some((at, index) => index > 0 && at - (first[index - 1] ?? -Infinity) < seconds * 1000)
}

/**
 * Compiles a schedule of kind `cron`, `rrule` or `once`. Fails with `InvalidSchedule`: an unknown zone, an expression that
 * is malformed, too long, without any occurrence, or with occurrences closer than allowed. A schedule that is merely over
 * compiles; whether `once` lies in the past is for the caller to judge.
 */
export const compile = (input: CompileInput): Either.Either<CompiledSchedule, InvalidSchedule> => {
  const zone = Zone.find(input.timezone)
  if (zone === undefined) {
    return refuse("unknown_timezone", "timezone", `"${input.timezone}" is no IANA zone name such as Europe/Chisinau`)
  }
  if (input.expr.length > LONGEST) {
    return refuse("invalid_schedule", "schedule_expr", `the expression is longer than ${LONGEST} characters`)
  }
  const compiled =
    input.kind === "cron"
      ? cron(input.expr, zone)
      : input.kind === "rrule"
        ? rrule(input, zone)
        : once(input.expr, zone)
  const { minIntervalSeconds = 0 } = input
  if (
    Either.isRight(compiled) &&
    minIntervalSeconds > 1 &&
    tooFrequent(compiled.right, input.createdAt, minIntervalSeconds)
  ) {
    return refuse("too_frequent", "schedule_expr", `occurrences are less than ${minIntervalSeconds} seconds apart`)
  }
  return compiled
}

/** An occurrence with its wall time and what the clock did to it, as a preview shows it. */
export const reading = (schedule: CompiledSchedule, at: number): Reading => ({
  at,
  local: Zone.formatLocal(Zone.toLocal(schedule.zone, at)),
  dst: schedule.dst(at)
})

/** The timeline within `startsAt` and `endsAt`, both inclusive instants; null leaves that side open. */
export const bounded = (
  timeline: Timeline,
  bounds: { readonly startsAt: number | null; readonly endsAt: number | null }
): Timeline => ({
  next: (after) => {
    const at = timeline.next(bounds.startsAt === null ? after : Math.max(after, bounds.startsAt - 1))
    return at !== null && bounds.endsAt !== null && at > bounds.endsAt ? null : at
  }
})

const FNV_PRIME = 0x100000001b3n

/** FNV-1a, 64 bits, over the characters of an ASCII text (draft-eastlake-fnv). */
const fnv1a = (text: string): bigint => {
  let hash = 0xcbf29ce484222325n
  for (let i = 0; i < text.length; i++) hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(i))) * FNV_PRIME)
  return hash
}

/**
 * When an occurrence is due: `scheduledFor` plus whole seconds 0..`jitterSeconds`, never past the next occurrence. The
 * spread is FNV-1a of `<task id>:<scheduledFor>` modulo `jitterSeconds` + 1, the same on every host and at every reading.
 */
export const dueAt = (
  taskId: string,
  scheduledFor: number,
  nextScheduledFor: number | null,
  jitterSeconds: number
): number => {
  if (jitterSeconds <= 0) return scheduledFor
  const delay = Number(fnv1a(`${taskId}:${scheduledFor}`) % BigInt(jitterSeconds + 1)) * 1000
  return Math.min(scheduledFor + delay, nextScheduledFor ?? Infinity)
}
