import type { TriggerRule } from "./TriggerSpec.ts"

/** Events of a window that their run is given whole, and their bytes as JSON; of those beyond it gets the ids. */
export const mostWhole = 1000
export const mostWholeBytes = 1_048_576

/** What an open window amounts to; instants are epoch milliseconds. */
export interface Window {
  readonly size: number
  /** Of all its events, as JSON. */
  readonly bytes: number
  readonly firstAt: number
  readonly lastAt: number
  readonly closeAt: number
  /** The longest chain that led to one of its events. */
  readonly hops: number
}

/** What becomes of the windows of a key when an event comes. */
export interface Taken {
  /** The open window had ended before the event came: it runs without it, and the event begins another. */
  readonly overdue: boolean
  /** The window with the event. */
  readonly window: Window
  /** Whether the run gets the whole event; those after one that it does not get, neither. */
  readonly whole: boolean
  /** The window runs now. */
  readonly full: boolean
}

/** Adds an event to the window of its key; null where none is open. */
export const take = (
  { longest, most, quiet }: TriggerRule,
  open: Window | null,
  event: { readonly at: number; readonly bytes: number; readonly hops: number }
): Taken => {
  const overdue = open !== null && event.at >= open.closeAt
  const before = open === null || overdue ? null : open
  const size = (before?.size ?? 0) + 1
  const bytes = (before?.bytes ?? 0) + event.bytes
  const firstAt = before?.firstAt ?? event.at
  const lastAt = Math.max(before?.lastAt ?? event.at, event.at)
  const closeAt = Math.min(firstAt + longest, quiet === null ? Infinity : lastAt + quiet)
  const hops = Math.max(before?.hops ?? 0, event.hops)
  return {
    overdue,
    window: { size, bytes, firstAt, lastAt, closeAt, hops },
    whole: size === 1 || (size <= mostWhole && bytes <= mostWholeBytes),
    full: size >= most
  }
}
