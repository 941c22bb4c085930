import { once } from "node:events"
import { bullMq } from "./contenders/bullmq.ts"
import { graphile } from "./contenders/graphile.ts"
import { ordinaut } from "./contenders/ordinaut.ts"
import { pgBoss } from "./contenders/pgboss.ts"
import type { Contest, Place } from "./contender.ts"

/** What `run.ts` asks of a process that runs one contest of one contender. */
export interface Order {
  readonly contender: keyof typeof contenders
  readonly contest: Contest
  readonly jobs: number
  readonly clients: number
  readonly postgres: string
  readonly redis: string
}

export const contenders = { Ordinaut: ordinaut, "graphile-worker": graphile, "pg-boss": pgBoss, BullMQ: bullMq }

/** Tells the parent, and goes on once it has heard. */
const tell = async (message: object) => {
  const heard = once(process, "message")
  process.send?.(message)
  await heard
}

if (process.send !== undefined) {
  const [order]: Array<Order> = await once(process, "message")
  if (order === undefined) throw new Error("there is no order")
  const place: Place = {
    postgres: order.postgres,
    redis: order.redis,
    begin: () => tell({ mark: "begin" }),
    end: () => tell({ mark: "end" })
  }
  const contender = contenders[order.contender]
  const figures = await (order.contest === "create"
    ? contender.create(place, order.clients, order.jobs)
    : contender[order.contest](place, order.jobs))
  await tell({ figures })
  process.exit(0)
}
