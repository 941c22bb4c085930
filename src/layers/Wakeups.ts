import * as PgClient from "@effect/sql-pg/PgClient"
import { Context, Duration, Effect, Layer, Queue, Redacted, Runtime, Schema } from "effect"
import Pg from "pg"
import * as Retries from "./Retries.ts"
import * as Settings from "./Settings.ts"

/**
 * What may have something to do: the scheduler (`schedule`), workers with free slots (`work`) or with runs that are to stop (`cancel`),
 * the publisher (`outbox`), those who follow what it numbered (`log`), external workers (`tool`).
 */
export type Channel = (typeof channels)[number]
const channels = ["schedule", "work", "cancel", "outbox", "log", "tool"] as const

const forEach = <A, E, R>(make: (channel: Channel) => Effect.Effect<A, E, R>) =>
  Effect.all({
    schedule: make("schedule"),
    work: make("work"),
    cancel: make("cancel"),
    outbox: make("outbox"),
    log: make("log"),
    tool: make("tool")
  })

const isChannel = (text: string | undefined): text is Channel => channels.some((channel) => channel === text)

/** Signals of one channel are sent at most this often; the first at once. */
const gap = Duration.millis(20)

/** The connection that listens was lost. */
class ListenerLost extends Schema.TaggedError<ListenerLost>()("ListenerLost", { cause: Schema.Defect }) {}

/** Where the signals wait that are held back; null where they are sent at once. */
class Held extends Context.Reference<Held>()("ordinaut/Wakeups/Held", {
  defaultValue: (): Set<Channel> | null => null
}) {}

const holding = (send: (channel: Channel) => Effect.Effect<void>): Pick<Contract, "signal" | "afterwards"> => {
  const signal = (channel: Channel) =>
    Effect.flatMap(Held, (held) => (held === null ? send(channel) : Effect.sync(() => void held.add(channel))))
  return {
    signal,
    afterwards: (effect) =>
      Effect.suspend(() => {
        const held = new Set<Channel>()
        return Effect.tap(Effect.provideService(effect, Held, held), () =>
          Effect.forEach(held, signal, { discard: true })
        )
      })
  }
}

interface Contract {
  /** Wakes the channel's loops in all processes. To be called after the commit. */
  readonly signal: (channel: Channel) => Effect.Effect<void>
  /**
   * Holds back the signals of an effect until it has succeeded: for who puts a transaction around the transactions of others.
   * Those of an effect that failed are never sent.
   */
  readonly afterwards: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Wakes the channel's loop in this process alone. */
  readonly signalHere: (channel: Channel) => Effect.Effect<void>
  /** Returns at the next signal, or after `atMost`. A signal since the last call counts. */
  readonly wait: (channel: Channel, atMost: Duration.DurationInput) => Effect.Effect<void>
}

/** Hints that a loop need not sleep on. A lost one costs latency alone: every loop also looks by itself. */
export class Wakeups extends Context.Tag("ordinaut/Wakeups")<Wakeups, Contract>() {
  /** Within one process: for a program that does everything itself, and for tests. */
  static readonly layerLocal = Layer.effect(
    this,
    Effect.suspend(() => local)
  )

  /**
   * Over PostgreSQL's NOTIFY, from connections of their own. One statement carries any number of signals, outside of every
   * transaction: a NOTIFY inside one makes all commits queue for one lock.
   */
  static readonly layer = Layer.scoped(
    this,
    Effect.gen(function* () {
      const here = yield* local
      const sql = yield* PgClient.PgClient
      const url = yield* Settings.databaseUrl
      yield* listen(url, here).pipe(Effect.retry(Retries.loop), Effect.forkScoped)
      const outgoing = yield* forEach(() => Queue.sliding<boolean>(1))
      yield* forEach((channel) =>
        outgoing[channel].take.pipe(
          Effect.zipRight(sql`SELECT pg_notify('ordinaut', ${channel})`),
          Effect.zipRight(Effect.sleep(gap)),
          Effect.retry(Retries.loop),
          Effect.forever,
          Effect.forkScoped
        )
      )
      return Wakeups.of({
        wait: here.wait,
        signalHere: here.signalHere,
        ...holding((channel) => Effect.zipRight(here.signalHere(channel), outgoing[channel].offer(true)))
      })
    })
  )
}

const local: Effect.Effect<Contract> = Effect.gen(function* () {
  const queues = yield* forEach(() => Queue.sliding<boolean>(1))
  const signalHere = (channel: Channel) => Effect.asVoid(queues[channel].offer(true))
  return {
    ...holding(signalHere),
    signalHere,
    wait: (channel, atMost) => queues[channel].take.pipe(Effect.timeoutOption(atMost), Effect.asVoid)
  }
})

/** Listens until the connection is lost. What was missed before it stood is made up for by one signal to every channel. */
const listen = (url: Redacted.Redacted, here: Contract) =>
  Effect.acquireUseRelease(
    Effect.sync(
      () =>
        new Pg.Client({
          connectionString: Redacted.value(url),
          application_name: "ordinaut-wakeups",
          keepAlive: true,
          connectionTimeoutMillis: 5000
        })
    ),
    (client) =>
      Effect.gen(function* () {
        const fork = Runtime.runFork(yield* Effect.runtime<never>())
        client.on("notification", ({ payload }) => {
          if (isChannel(payload)) fork(here.signal(payload))
        })
        const lost = Effect.async<never, ListenerLost>((resume) => {
          client.on("error", (cause) => resume(new ListenerLost({ cause })))
          client.on("end", () => resume(new ListenerLost({ cause: "the server closed the connection" })))
        })
        // A connection that went half-open would listen to silence for ever.
        const pulse = Effect.tryPromise({
          try: () => client.query("SELECT 1"),
          catch: (cause) => new ListenerLost({ cause })
        }).pipe(
          Effect.timeoutFail({ duration: "5 seconds", onTimeout: () => new ListenerLost({ cause: "no answer" }) }),
          Effect.delay("10 seconds"),
          Effect.forever
        )
        const connected = Effect.tryPromise({
          try: () => client.connect().then(() => client.query("LISTEN ordinaut")),
          catch: (cause) => new ListenerLost({ cause })
        })
        return yield* Effect.raceFirst(
          lost,
          connected.pipe(Effect.zipRight(forEach(here.signal)), Effect.zipRight(pulse))
        )
      }),
    (client) => Effect.promise(() => client.end().catch(() => undefined)).pipe(Effect.timeoutOption("1 second"))
  )
