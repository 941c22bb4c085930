import { Queue, Worker } from "bullmq"
import { byClients, lags, latencies, now, patience, pause, pickUps, rated, startsOf, until } from "../contender.ts"
import type { Contender, Place } from "../contender.ts"

const connectionOf = (place: Place) => ({ url: place.redis, maxRetriesPerRequest: null })

const withQueue = async <A>(place: Place, body: (queue: Queue) => Promise<A>): Promise<A> => {
  const queue = new Queue("jobs", { connection: connectionOf(place) })
  try {
    return await body(queue)
  } finally {
    await queue.close()
  }
}

const start = async (place: Place, note: (n: number) => void) => {
  const worker = new Worker("jobs", async (job) => note(job.data.n), {
    connection: connectionOf(place),
    concurrency: 50
  })
  await worker.waitUntilReady()
  return worker
}

export const bullMq: Contender = {
  drain: (place, jobs) =>
    withQueue(place, async (queue) => {
      const seen = startsOf()
      // Its jobs do not come all at once otherwise.
      await queue.pause()
      for (let n = 0; n < jobs; n += 1000) {
        await queue.addBulk(
          Array.from({ length: Math.min(1000, jobs - n) }, (_, i) => ({ name: "job", data: { n: n + i } }))
        )
      }
      const worker = await start(place, seen.note)
      await pause(500)
      await place.begin()
      await queue.resume()
      await until(async () => (await queue.getCompletedCount()) === jobs, patience)
      const took = now() - seen.first()
      await place.end()
      await worker.close()
      seen.check(jobs)
      return { rate: (jobs / took) * 1000, done: jobs }
    }),

  create: (place, clients, jobs) =>
    withQueue(place, async (queue) => {
      await queue.waitUntilReady()
      await place.begin()
      const began = now()
      const took = await byClients(clients, jobs, (n) => queue.add("job", { n }))
      const figures = rated(took, now() - began)
      await place.end()
      return figures
    }),

  pickUp: (place, samples) =>
    withQueue(place, async (queue) => {
      const seen = startsOf()
      const worker = await start(place, seen.note)
      await pause(500)
      const called = await pickUps(samples, (n) => queue.add("job", { n }))
      await worker.close()
      seen.check(samples)
      return latencies(called, seen.starts)
    }),

  due: (place, schedules) =>
    withQueue(place, async (queue) => {
      const seen = startsOf()
      const at = Math.ceil((now() + 30_000) / 1000) * 1000
      const due = new Date(at)
      const pattern = `${due.getUTCSeconds()} ${due.getUTCMinutes()} * * * *`
      await byClients(32, schedules, (n) =>
        queue.upsertJobScheduler(`schedule-${n}`, { pattern, tz: "UTC" }, { name: "job", data: { n } })
      )
      if (now() > at) throw new Error("the schedules were not made in time")
      const worker = await start(place, seen.note)
      await pause(at - now() - 1000)
      await place.begin()
      await until(() => seen.starts.size === schedules, patience, 5)
      await place.end()
      await worker.close()
      return lags(at, seen.starts, schedules)
    })
}
