import { Effect } from "effect"
import pg from "pg"
import type { Fleet } from "./Fleet.ts"

const connect = (url: string) => {
  const client = new pg.Client({ connectionString: url })
  client.on("error", () => undefined)
  return client.connect().then(() => client)
}

const end = (clients: ReadonlyArray<pg.Client>) =>
  Effect.promise(() => Promise.all(clients.map((client) => client.end().catch(() => undefined))))

/** Nobody else gets a connection to PostgreSQL for that time; open ones are cut by `cut` meanwhile. */
export const noConnectionLeft = ({ database }: Fleet, time: Effect.Effect<void>, cut: Effect.Effect<void>) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const clients: Array<pg.Client> = []
      for (;;) {
        const client = await connect(database).catch(() => undefined)
        if (client === undefined) return clients
        clients.push(client)
      }
    }),
    () => Effect.zipRight(cut, time),
    (clients) => end(clients)
  )

/** Whoever asks for tasks, events or steps waits for that time, and keeps a connection of its pool. */
export const poolsExhausted = ({ database }: Fleet, time: Effect.Effect<void>) =>
  Effect.acquireUseRelease(
    Effect.tryPromise(() => connect(database)),
    (client) =>
      Effect.zipRight(
        Effect.tryPromise(async () => {
          await client.query("SET lock_timeout = '5s'")
          await client.query("BEGIN")
          await client.query("LOCK TABLE task, event, live_step IN ACCESS EXCLUSIVE MODE")
        }),
        time
      ),
    (client) => end([client])
  ).pipe(Effect.ignore)

/** Redis refuses what would take memory for that time. */
export const redisFull = ({ redis: { client } }: Fleet, time: Effect.Effect<void>) => {
  const limit = (bytes: string) =>
    Effect.tryPromise(() => client.config("SET", "maxmemory", bytes)).pipe(Effect.timeout("2 seconds"), Effect.ignore)
  return limit("1").pipe(Effect.zipRight(time), Effect.ensuring(limit("0")))
}
