/** How long a worker leases nothing, so that what it runs may end and a suspect have it for itself; milliseconds. */
const patience = 10_000
/** After a suspect, others have the worker at least this long. */
const pauseAfterSuspect = 2000
/** After patience ran out in vain. */
const pauseAfterPatience = 30_000

/**
 * A suspect, a run that was there when two worker processes died, is run alone: if it kills a third, no other run pays for it.
 * To make room a worker closes, waits until it runs nothing, and takes one suspect. Instants are of the monotonic clock.
 */
export const makeIsolation = () => {
  let mode: "open" | "closing" | "alone" = "open"
  let closedAt = 0
  let askAt = 0
  const open = (now: number, pause: number) => {
    mode = "open"
    askAt = now + pause
  }
  return {
    /** Whether the worker may lease as usual. */
    isOpen: () => mode === "open",
    /** Whether it is time to ask if a suspect waits. */
    asks: (now: number) => mode === "open" && now >= askAt,
    close: (now: number) => {
      mode = "closing"
      closedAt = now
    },
    /** Whether this turn is to take a suspect; ends what is over: a suspect that is done, and patience. */
    begins: (running: number, now: number): boolean => {
      if (mode === "alone" && running === 0) open(now, pauseAfterSuspect)
      if (mode !== "closing") return false
      if (running === 0) return true
      if (now > closedAt + patience) open(now, pauseAfterPatience)
      return false
    },
    /** What came of that turn. */
    began: (found: boolean, now: number) => {
      if (found) mode = "alone"
      else open(now, pauseAfterSuspect)
    }
  }
}
