import { Duration } from "effect"

/** How long a worker leases nothing at first, so that what it runs may end; twice as long each time that was in vain; milliseconds. */
const firstPatience = 10_000
const mostPatience = 60_000
/** After patience in vain others have the worker that long, and other workers its place. */
const pauseInVain = 10_000
/** After a suspect, and from the start, others have the worker at least this long. */
const pauseAfterSuspect = 2000

/**
 * A suspect, a run that was there when two worker processes died, is run alone: if it kills a third, no other run pays for it.
 * To make room a worker closes, waits until it runs nothing, and takes one suspect after the other while its place lasts.
 * Whether it may the store decides (`Lease.makeRoom`), so that others go on meanwhile. Instants are of the monotonic clock.
 */
export const makeIsolation = (startedAt: number) => {
  let mode: "open" | "closing" | "alone" = "open"
  let patience = firstPatience
  /** While it is closed: when its place runs out. While it is open: when it may close again. */
  let until = startedAt + pauseAfterSuspect
  const open = (now: number, pause: number) => {
    mode = "open"
    until = now + pause
  }
  return {
    /** Whether the worker may lease as usual. */
    isOpen: () => mode === "open",
    /** Whether it is time to ask for a place to make room. */
    asks: (now: number) => mode === "open" && now >= until,
    /** For how long to ask. */
    patience: () => Duration.millis(patience),
    close: (now: number) => {
      mode = "closing"
      until = now + patience
    },
    /** Whether this turn is to take a suspect; ends what is over: a suspect that is done, and patience, with which the place has run out. */
    begins: (running: number, now: number): boolean => {
      if (mode === "open") return false
      if (now <= until) return running === 0
      if (mode === "alone") {
        if (running === 0) open(now, pauseAfterSuspect)
        return false
      }
      open(now, pauseInVain)
      patience = Math.min(2 * patience, mostPatience)
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
