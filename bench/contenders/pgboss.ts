import { PgBoss } from "pg-boss"
import { byClients, lags, latencies, now, patience, pause, pickUps, rated, startsOf, until } from "../contender.ts"
import type { Contender, Place } from "../contender.ts"

const queue = "jobs"

const withBoss = async <A>(place: Place, options: object, body: (boss: PgBoss) => Promise<A>): Promise<A> => {
  const boss = new PgBoss({ connectionString: place.postgres, max: 32, supervise: false, ...options })
  boss.on("error", () => undefined)
  await boss.start()
  try {
    await boss.createQueue(queue, { notify: true })
    return await body(boss)
  } finally {
    await boss.stop({ graceful: false })
  }
}

/** Batches of 1,000, with two pollers. */
const work = (boss: PgBoss, note: (n: number) => void, options: object = {}) =>
  boss.work<{ n: number }>(
    queue,
    { batchSize: 1000, localConcurrency: 2, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true, ...options },
    async (jobs) => {
      for (const { data } of jobs) note(data.n)
    }
  )

export const pgBoss: Contender = {
  drain: (place, jobs) =>
    withBoss(place, { schedule: false }, async (boss) => {
      const seen = startsOf()
      await work(boss, seen.note)
      await place.begin()
      await boss.insert(
        queue,
        Array.from({ length: jobs }, (_, n) => ({ data: { n } }))
      )
      const database = boss.getDb()
      await until(async () => {
        const { rows } = await database.executeSql(
          "SELECT EXISTS (SELECT FROM pgboss.job WHERE name = 'jobs' AND state < 'completed') AS left"
        )
        return rows[0]?.left === false
      }, patience)
      const took = now() - seen.first()
      await place.end()
      seen.check(jobs)
      return { rate: (jobs / took) * 1000, done: jobs }
    }),

  create: (place, clients, jobs) =>
    withBoss(place, { schedule: false }, async (boss) => {
      await place.begin()
      const began = now()
      const took = await byClients(clients, jobs, (n) => boss.send(queue, { n }))
      const figures = rated(took, now() - began)
      await place.end()
      return figures
    }),

  pickUp: (place, samples) =>
    withBoss(place, { schedule: false, useListenNotify: true }, async (boss) => {
      const seen = startsOf()
      await work(boss, seen.note, { batchSize: 1 })
      await pause(1000)
      const called = await pickUps(samples, (n) => boss.send(queue, { n }))
      seen.check(samples)
      return latencies(called, seen.starts)
    }),

  due: (place, schedules) =>
    withBoss(place, { cronMonitorIntervalSeconds: 1, cronWorkerIntervalSeconds: 1 }, async (boss) => {
      const seen = startsOf()
      const at = Math.ceil((now() + 40_000) / 60_000) * 60_000
      const cron = `${new Date(at).getUTCMinutes()} * * * *`
      await byClients(16, schedules, (n) => boss.schedule(queue, cron, { n }, { key: `schedule-${n}` }))
      await work(boss, seen.note)
      await pause(at - now() - 1000)
      await place.begin()
      await until(() => seen.starts.size === schedules, patience, 5)
      await place.end()
      return lags(at, seen.starts, schedules)
    })
}
