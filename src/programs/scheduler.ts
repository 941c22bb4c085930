import { Layer } from "effect"
import * as Listen from "../http/Listen.ts"
import { Audit } from "../layers/Audit.ts"
import { AwaitedEvents } from "../layers/AwaitedEvents.ts"
import { Backfills } from "../layers/Backfills.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import { DueTasks } from "../layers/DueTasks.ts"
import { Events } from "../layers/Events.ts"
import { EventStream } from "../layers/EventStream.ts"
import { Health } from "../layers/Health.ts"
import { Heartbeats } from "../layers/Heartbeats.ts"
import { History } from "../layers/History.ts"
import * as Ingress from "../layers/Ingress.ts"
import * as Launch from "../layers/Launch.ts"
import { Lease } from "../layers/Lease.ts"
import * as Migrations from "../layers/Migrations.ts"
import { Queue } from "../layers/Queue.ts"
import { Redis } from "../layers/Redis.ts"
import { Scheduler } from "../layers/Scheduler.ts"
import { Wakeups } from "../layers/Wakeups.ts"

const Loops = Layer.mergeAll(Scheduler.loop, EventStream.loop, Queue.loop, Ingress.loop).pipe(
  Layer.provide([Scheduler.layer, Backfills.layer, Events.layer, EventStream.layer, History.layer, Queue.layer]),
  Layer.provide([DueTasks.layer, AwaitedEvents.layer]),
  Layer.provide([Lease.layer, Audit.layer]),
  Layer.provide(Migrations.layerAwaited),
  Layer.provide(Clock.layerSynchronized)
)

const Main = Layer.merge(Loops, Listen.ops(8081)).pipe(
  Layer.provide(Health.layerOf("scheduler")),
  Layer.provide([Heartbeats.layer, Wakeups.layer, Redis.layer]),
  // Of what tells the health: how long ago the loops passed is no matter of the host's clock.
  Layer.provide(Clock.layer),
  Layer.provide(Db.layerNamed("ordinaut-scheduler"))
)

Launch.run("scheduler", Main)
