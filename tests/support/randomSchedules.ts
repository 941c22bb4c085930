/** Zones whose clocks change in many ways: an hour, half an hour, at midnight, over Ramadan, not at all. */
const zones: readonly [string, ...ReadonlyArray<string>] = [
  "Europe/Chisinau",
  "America/New_York",
  "Australia/Lord_Howe",
  "Africa/Casablanca",
  "America/Santiago",
  "Asia/Kolkata",
  "Europe/London",
  "UTC"
]

/** The parts of a definition that say when a task runs. */
export interface RandomSchedule {
  readonly schedule_kind: "cron" | "rrule" | "once"
  readonly schedule_expr: string
  readonly timezone: string
}

/** Choices that a random number decides. */
export const chooser = (random: () => number) => {
  const below = (n: number) => Math.floor(random() * n)
  const one = <A>(choices: readonly [A, ...ReadonlyArray<A>]): A => choices[below(choices.length)] ?? choices[0]
  return { below, one, chance: (probability: number) => random() < probability }
}

/** A schedule from hourly to yearly, of any kind and zone; `once` lies within the `span` milliseconds after `now`. */
export const randomSchedule = (random: () => number, now: number, span: number): RandomSchedule => {
  const { below, one } = chooser(random)
  const timezone = one(zones)
  const minute = below(60)
  const hour = below(24)
  const kind = random()
  if (kind < 0.05) {
    const at = new Date(now + 60_000 + Math.floor(random() * span))
    return { schedule_kind: "once", schedule_expr: `${at.toISOString().slice(0, 19)}Z`, timezone }
  }
  if (kind < 0.5) {
    const schedule_expr = one([
      `${minute} ${hour} * * *`,
      `${minute} ${hour} * * *`,
      `${minute} ${hour} * * 1-5`,
      `${minute} ${hour} * * ${below(7)}`,
      `${minute} ${hour} ${1 + below(31)} * *`,
      `${minute} 2,3 * * *`,
      `${minute} */6 * * *`,
      `${minute} ${hour} ${1 + below(28)} ${1 + below(12)} *`,
      `30 1-3 * * 0`,
      ...(random() < 0.1 ? [`${minute} * * * *`] : [])
    ])
    return { schedule_kind: "cron", schedule_expr, timezone }
  }
  const schedule_expr = one([
    `FREQ=DAILY;BYHOUR=${hour};BYMINUTE=${minute}`,
    `FREQ=DAILY;INTERVAL=${1 + below(5)};BYHOUR=2,3;BYMINUTE=30`,
    `FREQ=WEEKLY;BYDAY=MO,WE,FR;BYHOUR=${hour}`,
    `FREQ=WEEKLY;INTERVAL=2;BYDAY=SU;BYHOUR=1,2,3`,
    `FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=${hour}`,
    `FREQ=MONTHLY;BYMONTHDAY=-1,15;BYHOUR=${hour}`,
    `FREQ=YEARLY;BYMONTH=${1 + below(12)};BYMONTHDAY=${1 + below(28)};BYHOUR=${hour}`,
    `FREQ=DAILY;COUNT=${1 + below(200)};BYHOUR=${hour}`,
    `FREQ=HOURLY;INTERVAL=${2 + below(11)}`,
    ...(random() < 0.1 ? [`FREQ=HOURLY;BYMINUTE=${minute}`] : [])
  ])
  return { schedule_kind: "rrule", schedule_expr, timezone }
}
