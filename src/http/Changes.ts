import { Clock, DateTime, Duration, Effect, Option, Stream } from "effect"
import type { Run } from "../domain/Run.ts"
import { isEnd, shows } from "../domain/StateChange.ts"
import type { Numbered } from "../layers/EventStream.ts"
import type { LogTail } from "../layers/LogTail.ts"
import * as Retries from "../layers/Retries.ts"
import type { Follower } from "./Follower.ts"
import * as ServerSentEvents from "./ServerSentEvents.ts"

/** A comment is sent where there was nothing else to send for so long. */
const aliveEvery = Duration.toMillis(Duration.seconds(15))

/** Where a stream begins. */
export interface Start {
  /** The number behind which it begins. */
  readonly behind: number
  /** Whether entries between what the client had and that number are lost. */
  readonly lost: boolean
  /** The run that it follows alone; null: all that the agent may see. */
  readonly run: string | null
  /** The run as it is when the stream begins; null where that is not told. */
  readonly present: Run | null
}

const stateOf = ({ created_at, error, finished_at, id, started_at, state, task_id }: Run) => ({
  run_id: id,
  task_id,
  state,
  error,
  at: DateTime.formatIso(finished_at ?? started_at ?? created_at)
})

const runOf = ({ entry }: Numbered): unknown => Object(entry.payload).run_id

/** What the client is told before the first change, and whether that is all. */
const opening = ({ behind, lost, present }: Start) => ({
  texts: [
    ServerSentEvents.greeting,
    ...(lost ? [ServerSentEvents.reset(behind)] : []),
    ...(present === null ? [] : [ServerSentEvents.event(behind, `ordinaut.run.${present.state}`, stateOf(present))])
  ],
  over: present !== null && present.finished_at !== null
})

/** How far a stream is: the number up to which everything was told or is not the client's, and when it last said anything. */
interface Place {
  readonly number: number
  readonly saidAt: number
  readonly over: boolean
}

/**
 * The changes behind a number as Server-Sent Events, until the follower's end, or the end of the run that is followed. It reads no
 * further while the client takes nothing.
 */
export const follow = (tail: typeof LogTail.Service, { ended, viewer }: Follower, start: Start) => {
  const { behind, run } = start
  const mine = (one: Numbered) => shows(viewer(), one.entry) && (run === null || runOf(one) === run)

  /** What comes next; an outage is waited for. */
  const next = (number: number) => Effect.retry(tail.after(number), Retries.loop)

  const told = (texts: ReadonlyArray<string>, place: Omit<Place, "saidAt">) =>
    Effect.map(Clock.currentTimeMillis, (saidAt) =>
      Option.some([ServerSentEvents.bytes(texts), { ...place, saidAt }] as const)
    )

  const step = Effect.fnUntraced(function* (place: Place) {
    let { number } = place
    for (;;) {
      const left = place.saidAt + aliveEvery - (yield* Clock.currentTimeMillis)
      const come = left <= 0 ? Option.none() : yield* Effect.timeoutOption(next(number), left)
      if (Option.isNone(come)) return yield* told([ServerSentEvents.alive(number)], { number, over: false })
      const [first] = come.value
      const gap = first !== undefined && first.number > number + 1
      const shown = come.value.filter(mine)
      const end = run === null ? -1 : shown.findIndex(({ entry }) => isEnd(entry.topic))
      number = come.value.at(-1)?.number ?? number
      const texts = (end < 0 ? shown : shown.slice(0, end + 1)).map(ServerSentEvents.change)
      const all = gap ? [ServerSentEvents.reset(first.number - 1), ...texts] : texts
      if (all.length > 0) return yield* told(all, { number, over: end >= 0 })
    }
  })

  const { over, texts } = opening(start)
  return Stream.unfoldEffect({ number: -1, saidAt: 0, over: false }, (place: Place) => {
    if (place.over) return Effect.succeedNone
    if (place.number < 0) return told(texts, { number: behind, over })
    return Effect.raceFirst(
      step(place),
      Effect.map(ended, () => Option.none())
    )
  })
}
