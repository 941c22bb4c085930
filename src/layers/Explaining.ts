import { DateTime, Either } from "effect"
import type { Explanation, Occurrence } from "../domain/Occurrence.ts"
import * as TaskSchedule from "../domain/TaskSchedule.ts"
import * as Conditions from "./Conditions.ts"
import * as TaskRows from "./TaskRows.ts"
import { millisOf } from "./TaskRows.ts"
import type { ScheduledTask } from "./TaskRows.ts"

/** What an explanation is made from, beside the task. */
export interface Known {
  readonly next: Occurrence | null
  /** Whether a scheduler is alive. */
  readonly scheduler: boolean
  /** What was said last on the topics of a condition. */
  readonly said: Conditions.Said
  /** The open windows of an event task: when the first ends, and how many events they hold. */
  readonly collecting: { readonly at: number; readonly events: number } | null
  /** Epoch milliseconds. */
  readonly now: number
}

/** A check with the reason that it is when it does not hold. */
type Checks = ReadonlyArray<Explanation["checks"][number] & { readonly reason: string }>

/** The things that must hold for a task to run next. */
export const checksOf = (task: ScheduledTask, known: Known): Checks => {
  const { next, scheduler } = known
  const timed = task.schedule_kind !== "event" && task.schedule_kind !== "condition"
  const left = task.max_runs === null ? null : task.max_runs - task.fired_count
  return [
    {
      name: "active",
      reason: task.status,
      holds: task.status === "active",
      sentence: `The task is ${task.status}${because(task.status_reason)}.`
    },
    {
      name: "not_quarantined",
      reason: "quarantined",
      holds: task.quarantined_at === null,
      sentence:
        task.quarantined_at === null
          ? "Its schedule can be evaluated."
          : `The scheduler set it aside: ${task.quarantine_reason ?? "its schedule cannot be evaluated"}.`
    },
    {
      name: "has_next",
      reason: "no_occurrence_left",
      holds: timed
        ? next !== null && next.note !== "beyond ends_at"
        : (millisOf(task.ends_at) ?? Infinity) >= known.now,
      sentence: timed
        ? next === null || next.note === "beyond ends_at"
          ? "Its schedule has no occurrence left."
          : `Its next occurrence is ${DateTime.formatIso(next.at)} (${next.local} ${task.timezone}).`
        : waitsFor(task, known)
    },
    ...conditionCheck(task, known),
    {
      name: "runs_left",
      reason: "no_runs_left",
      holds: left === null || left > 0,
      sentence:
        left === null
          ? "The number of its runs is not limited."
          : `${Math.max(0, left)} of ${task.max_runs} runs are left.`
    },
    {
      name: "scheduler_alive",
      reason: "no_scheduler",
      holds: scheduler,
      sentence: scheduler ? "A scheduler is alive." : "No scheduler is alive: nothing fires until one is."
    }
  ]
}

const because = (reason: string | null) => (reason === null ? "" : ` (${reason})`)

/** What a task without a timeline waits for. */
const waitsFor = (task: ScheduledTask, { collecting, now }: Known): string => {
  if ((millisOf(task.ends_at) ?? Infinity) < now) return "Its ends_at has passed."
  if (collecting !== null)
    return `It collects events, ${collecting.events} by now, and runs at ${new Date(collecting.at).toISOString()} at the earliest.`
  if (task.schedule_kind === "event") return "It waits for an event."
  const plan = Conditions.planOf(task.schedule_expr)
  if (Either.isLeft(plan)) return "It waits for its condition."
  return `It runs ${TaskSchedule.describe(plan.right)}.`
}

/** Whether a condition can be evaluated over what was said last, and what it is. */
const conditionCheck = (task: ScheduledTask, { now, said }: Known): Checks => {
  const plan = task.schedule_kind === "condition" ? Conditions.planOf(task.schedule_expr) : null
  if (plan === null || Either.isLeft(plan)) return []
  const value = Conditions.valueOf(plan.right, task, said, now)
  const missing = plan.right.topics.filter((topic) => !said.has(topic))
  const base =
    task.last_value === null
      ? " The next look at it sets the base, and does not fire."
      : ` It was ${task.last_value} when it was last looked at.`
  return [
    {
      name: "condition_evaluates",
      reason: "condition_error",
      holds: Either.isRight(value),
      sentence:
        Either.match(value, {
          onLeft: (error) => `Its condition cannot be evaluated, which counts as not true: ${error}.`,
          onRight: (holds) => `Its condition is ${holds} now.`
        }) +
        (missing.length === 0 ? "" : ` Nothing was said on ${missing.join(", ")} yet.`) +
        base
    }
  ]
}

/** The first check that does not hold is the reason. */
export const verdict = (
  task: ScheduledTask,
  next: Occurrence | null,
  checks: Checks
): { readonly reason: string; readonly sentence: string } => {
  const broken = checks.find(({ holds }) => !holds)
  if (broken !== undefined) return { reason: broken.reason, sentence: `It will not run: ${broken.sentence}` }
  if (next === null && task.schedule_kind === "condition")
    return { reason: "waits_for_condition", sentence: `It runs when this becomes true: ${task.schedule_expr}` }
  if (next === null)
    return { reason: "waits_for_event", sentence: `It runs when an event matches ${task.schedule_expr}.` }
  return next.note === "snoozed"
    ? {
        reason: "snoozed",
        sentence: `It runs at ${DateTime.formatIso(next.due_at)}: the occurrence of ${DateTime.formatIso(next.at)} was put off.`
      }
    : { reason: "scheduled", sentence: `It runs at ${DateTime.formatIso(next.due_at)}.` }
}

/** What became of one instant. */
export const fateOf = (
  task: ScheduledTask,
  at: number,
  fate: { readonly id: string; readonly skip_reason: string | null } | undefined
): { readonly reason: string; readonly sentence: string } => {
  const when = new Date(at).toISOString()
  if (fate !== undefined) {
    return fate.skip_reason === null
      ? { reason: "fired", sentence: `${when} fired as run ${fate.id}.` }
      : { reason: fate.skip_reason, sentence: `${when} was skipped (${fate.skip_reason}), recorded as run ${fate.id}.` }
  }
  const plan = TaskSchedule.read(TaskRows.scheduleFields(task))
  const timeline = Either.isRight(plan) && plan.right._tag === "Timed" ? plan.right.timeline : null
  if (timeline === null || timeline.next(at - 1) !== at) {
    return { reason: "no_occurrence", sentence: `${when} is no occurrence of the schedule as it is now.` }
  }
  if (at < DateTime.toEpochMillis(task.created_at))
    return { reason: "before_creation", sentence: `${when} lies before the task was created.` }
  const next = millisOf(task.next_run_at)
  return next !== null && at >= next
    ? { reason: "to_come", sentence: `${when} is still to be decided.` }
    : {
        reason: "not_recorded",
        sentence: `${when} is decided, and its record is past its retention or belongs to an earlier schedule.`
      }
}
