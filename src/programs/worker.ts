import { Layer } from "effect"
import * as Listen from "../http/Listen.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import { Health } from "../layers/Health.ts"
import { Heartbeats } from "../layers/Heartbeats.ts"
import { History } from "../layers/History.ts"
import * as Launch from "../layers/Launch.ts"
import { Lease } from "../layers/Lease.ts"
import * as Migrations from "../layers/Migrations.ts"
import { Pipeline } from "../layers/Pipeline.ts"
import { Plans } from "../layers/Plans.ts"
import { Redis } from "../layers/Redis.ts"
import { CoreToolset } from "../layers/CoreToolset.ts"
import { ChildRuns } from "../layers/ChildRuns.ts"
import { Tools } from "../layers/Tools.ts"
import { Wakeups } from "../layers/Wakeups.ts"
import { Worker } from "../layers/Worker.ts"
import * as WorkerLoop from "../layers/WorkerLoop.ts"

const Loops = Layer.merge(WorkerLoop.loop, History.loop).pipe(
  Layer.provide([Worker.layer, History.layer]),
  Layer.provide(Pipeline.layer),
  Layer.provide(Tools.layer),
  Layer.provide(CoreToolset.layer),
  Layer.provide([Plans.layer, ChildRuns.layer]),
  Layer.provide(Lease.layer),
  Layer.provide(Migrations.layerAwaited),
  Layer.provide(Clock.layerSynchronized)
)

const Main = Layer.merge(Loops, Listen.ops(8082)).pipe(
  Layer.provide(Health.layer),
  Layer.provide([Heartbeats.layer, Wakeups.layer, Redis.layer]),
  Layer.provide(Db.layerNamed("ordinaut-worker"))
)

Launch.run("worker", Main)
