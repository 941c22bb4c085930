import { Schedule } from "effect"

/** At start: a try every 250 ms growing to one every 5 s, for ever. A program outlives a database that comes up after it. */
export const boot = Schedule.exponential("250 millis").pipe(
  Schedule.union(Schedule.spaced("5 seconds")),
  Schedule.jittered
)

/** Loops: 200 ms growing to one try every 2 s, for ever, from the start again after a good minute. A loop outlives any outage. */
export const loop = Schedule.exponential("200 millis").pipe(
  Schedule.union(Schedule.spaced("2 seconds")),
  Schedule.jittered,
  Schedule.resetAfter("1 minute")
)

/** A transaction that lost to another (deadlock, serialization failure): four more tries within half a second. */
export const contention = Schedule.exponential("10 millis").pipe(
  Schedule.jittered,
  Schedule.intersect(Schedule.recurs(4))
)
