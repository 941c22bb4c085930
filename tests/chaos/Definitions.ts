import type { Chance } from "../simulation/Chance.ts"

/** Body of POST /tasks. */
export type Definition = Readonly<Record<string, unknown>>

const quick = {
  pipeline: [
    { id: "note", uses: "core.log", with: { message: "${task.title}" } },
    { id: "send", uses: "mail.send", with: { to: "a@example.org" }, save_as: "sent" },
    { id: "echo", uses: "core.transform", with: { value: "${steps.sent}" }, if: "steps.note.logged" }
  ]
}

/** Is under way for about `seconds`, and ends well: a call that is refused twice a second, and at last passed over. */
const working = (seconds: number) => ({
  pipeline: [
    { id: "first", uses: "mail.send" },
    {
      id: "work",
      uses: "core.fail",
      with: { message: "not yet", retryable: true },
      retry: { max_attempts: seconds * 2 + 1, backoff_strategy: "fixed", backoff_seconds: 0.5 },
      on_error: "continue"
    },
    { id: "last", uses: "mail.send", with: { after: "${errors.work.code}" } }
  ]
})

const failing = { pipeline: [{ id: "fail", uses: "core.fail", with: { message: "always", retryable: true } }] }

const cron = (schedule_expr: string) => ({ schedule_kind: "cron", schedule_expr })
const rrule = (schedule_expr: string) => ({ schedule_kind: "rrule", schedule_expr })

/** Schedules that fire about every second, and every five; a patch changes one for another of its kind. */
export const often = [
  cron("* * * * * *"),
  cron("* * * * * *"),
  cron("*/2 * * * * *"),
  rrule("FREQ=SECONDLY;INTERVAL=1"),
  rrule("FREQ=SECONDLY;INTERVAL=3")
] as const
export const seldom = [cron("*/5 * * * * *"), cron("1-59/6 * * * * *"), rrule("FREQ=SECONDLY;INTERVAL=7")] as const

const policies = (chance: Chance) => ({
  timezone: chance.pick(["UTC", "Europe/Chisinau", "America/New_York"]),
  priority: chance.int(1, 9),
  overlap_policy: chance.pick(["allow", "allow", "skip", "queue", "cancel_running"]),
  misfire_policy: chance.pick(["fire_once", "fire_all", "skip"]),
  misfire_grace_seconds: chance.pick([0, 1, 3, 60]),
  jitter_seconds: chance.pick([0, 0, 0, 1]),
  backoff_strategy: "fixed",
  backoff_seconds: chance.pick([0.2, 1]),
  ...(chance.maybe(0.4) ? { concurrency_key: `key ${chance.int(1, 3)}`, concurrency_limit: chance.int(2, 5) } : {})
})

/** A task that fires over and over, and whether it fires often. */
export interface Recurring {
  readonly often: boolean
  readonly definition: Definition
}

/** Tasks that fire all the time: quick ones, some that take seconds, some that fail and are tried again. */
export const recurring = (chance: Chance): ReadonlyArray<Recurring> =>
  Array.from({ length: 24 }, (_, n) => {
    const kind = n % 8
    const isOften = kind < 4
    const bound = chance.maybe(0.15) ? { max_runs: chance.int(5, 40) } : {}
    return {
      often: isOften,
      definition: {
        title: `recurring ${n}`,
        ...policies(chance),
        // Those that take about as long as from one to the next would queue up without end.
        ...(isOften ? {} : { overlap_policy: chance.pick(["allow", "allow", "skip", "cancel_running"]) }),
        ...chance.pick(isOften ? often : seldom),
        ...bound,
        payload: isOften ? quick : kind === 7 ? failing : working(chance.int(2, 5)),
        max_retries: kind === 7 ? 2 : 1
      }
    }
  })

/** An event task and the events that it is to hear. */
export interface Listener {
  readonly definition: Definition
  readonly hears: (topic: string, n: number) => boolean
}

/** Topics of the events that a round publishes, with a payload `{n}` of 0 to 9. */
export const topics = ["orders.created", "orders.paid", "orders.paid.late", "stock.low"] as const

const listening: ReadonlyArray<readonly [string, Listener["hears"]]> = [
  ["orders.*", (topic) => topic === "orders.created" || topic === "orders.paid"],
  ["orders.**", (topic) => topic.startsWith("orders.")],
  ["**", () => true],
  ["*.created if event.payload.n > `5`", (topic, n) => topic === "orders.created" && n > 5],
  ["stock.low if event.payload.n == `3`", (topic, n) => topic === "stock.low" && n === 3]
]

export const listeners = (chance: Chance): ReadonlyArray<Listener> =>
  listening.map(([schedule_expr, hears]) => ({
    hears,
    definition: {
      title: `hears ${schedule_expr}`,
      ...policies(chance),
      schedule_kind: "event",
      schedule_expr,
      payload: quick
    }
  }))

/** A task that fires once, some seconds after `now` (epoch milliseconds). */
export const once = (chance: Chance, title: string, now: number): Definition => ({
  title,
  schedule_kind: "once",
  schedule_expr: new Date(now + chance.int(1000, 8000)).toISOString(),
  payload: chance.pick([quick, quick, working(1), failing]),
  max_retries: 1,
  backoff_seconds: 0.2,
  priority: chance.int(1, 9)
})

/** A task that only runs when it is told to. */
export const byHand = (title: string): Definition => ({
  title,
  schedule_kind: "once",
  schedule_expr: "2100-01-01T00:00:00Z",
  payload: working(3),
  max_retries: 1
})
