import { Logger, makeWorkerUtils, parseCronItems, run } from "graphile-worker"
import type { CronItem, Runner, TaskList } from "graphile-worker"
import pg from "pg"
import { byClients, lags, latencies, now, patience, pause, pickUps, rated, startsOf, until } from "../contender.ts"
import type { Contender, Place } from "../contender.ts"

const logger = new Logger(() => () => undefined)

/** As its own performance test sets it: a local queue, and completion in batches. */
const fastest = {
  concurrentJobs: 24,
  maxPoolSize: 10,
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  localQueue: { size: 500 }
}

const start = (place: Place, taskList: TaskList, worker: object, crontab: Array<CronItem> = []): Promise<Runner> =>
  run({
    taskList,
    logger,
    noHandleSignals: true,
    parsedCronItems: parseCronItems(crontab),
    preset: { worker: { connectionString: place.postgres, ...worker } }
  })

const withUtils = async <A>(place: Place, body: (utils: Awaited<ReturnType<typeof makeWorkerUtils>>) => Promise<A>) => {
  const pgPool = new pg.Pool({ connectionString: place.postgres, max: 32 })
  pgPool.on("error", () => undefined)
  const utils = await makeWorkerUtils({ pgPool, logger })
  try {
    await utils.migrate()
    return await body(utils)
  } finally {
    await utils.release()
    await pgPool.end()
  }
}

const numberOf = (payload: unknown) => Number(Reflect.get(Object(payload), "n"))

export const graphile: Contender = {
  drain: (place, jobs) =>
    withUtils(place, async (utils) => {
      const seen = startsOf()
      const runner = await start(place, { job: async (payload) => seen.note(numberOf(payload)) }, fastest)
      await pause(500)
      await place.begin()
      await utils.addJobs(Array.from({ length: jobs }, (_, n) => ({ identifier: "job", payload: { n } })))
      const empty = () =>
        utils.withPgClient(async (client) => {
          const { rows } = await client.query("SELECT EXISTS (SELECT FROM graphile_worker.jobs) AS left")
          return rows[0]?.left === false
        })
      await until(empty, patience)
      const took = now() - seen.first()
      await place.end()
      await runner.stop()
      seen.check(jobs)
      return { rate: (jobs / took) * 1000, done: jobs }
    }),

  create: (place, clients, jobs) =>
    withUtils(place, async (utils) => {
      await place.begin()
      const began = now()
      const took = await byClients(clients, jobs, (n) => utils.addJob("job", { n }))
      const figures = rated(took, now() - began)
      await place.end()
      return figures
    }),

  pickUp: (place, samples) =>
    withUtils(place, async (utils) => {
      const seen = startsOf()
      const runner = await start(
        place,
        { job: async (payload) => seen.note(numberOf(payload)) },
        { concurrentJobs: 10 }
      )
      await pause(500)
      const called = await pickUps(samples, (n) => utils.addJob("job", { n }))
      await runner.stop()
      seen.check(samples)
      return latencies(called, seen.starts)
    }),

  due: (place, schedules) =>
    withUtils(place, async () => {
      const seen = startsOf()
      // Its crontab knows minutes.
      const at = Math.ceil((now() + 15_000) / 60_000) * 60_000
      const minute = new Date(at).getUTCMinutes()
      const crontab = Array.from({ length: schedules }, (_, n) => ({
        task: "job",
        identifier: `schedule-${n}`,
        match: `${minute} * * * *`,
        payload: { n }
      }))
      const runner = await start(place, { job: async (payload) => seen.note(numberOf(payload)) }, fastest, crontab)
      await pause(at - now() - 1000)
      await place.begin()
      await until(() => seen.starts.size === schedules, patience, 5)
      await place.end()
      await runner.stop()
      return lags(at, seen.starts, schedules)
    })
}
