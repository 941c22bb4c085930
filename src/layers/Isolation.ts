/** How long a worker leases nothing at first, so that what it runs may end; twice as long each time that was in vain; milliseconds. */
const firstPatience = 10_000
/** After a suspect, and from the start, others have the worker at least this long. */
const pauseAfterSuspect = 2000

/**
 * A suspect, a run that was there when two worker processes died, is run alone: if it kills a third, no other run pays for it.
 * To make room a worker closes, waits until it runs nothing, and takes one suspect. Which worker does so the store decides
 * (`Lease.suspects`), so that others go on meanwhile. Instants are of the monotonic clock.
 */
export const makeIsolation = (startedAt: number) => {
  let mode: "open" | "closing" | "alone" = "open"
  let patience = firstPatience
  /** While it closes: when patience is over. While it is open: when it may close again. */
  let until = startedAt + pauseAfterSuspect
  const open = (now: number, pause: number) => {
    mode = "open"
    until = now + pause
  }
  return {
    /** Whether the worker may lease as usual. */
    isOpen: () => mode === "open",
    /** Whether it is time to ask if a suspect waits. */
    asks: (now: number) => mode === "open" && now >= until,
    close: (now: number) => {
      mode = "closing"
      until = now + patience
    },
    /** Whether this turn is to take a suspect; ends what is over: a suspect that is done, and patience. */
    begins: (running: number, now: number): boolean => {
      if (mode === "alone" && running === 0) open(now, pauseAfterSuspect)
      if (mode !== "closing") return false
      if (running === 0) return true
      if (now > until) {
        // Others have the worker as long as they were kept waiting.
        open(now, patience)
        patience *= 2
      }
      return false
    },
    /** What came of that turn. */
    began: (found: boolean, now: number) => {
      patience = firstPatience
      if (found) mode = "alone"
      else open(now, pauseAfterSuspect)
    }
  }
}
