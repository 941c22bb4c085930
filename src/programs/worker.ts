import { Layer } from "effect"
import * as Listen from "../http/Listen.ts"
import { Audit } from "../layers/Audit.ts"
import { AwaitedEvents } from "../layers/AwaitedEvents.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import { Events } from "../layers/Events.ts"
import { Extensions } from "../layers/Extensions.ts"
import { Health } from "../layers/Health.ts"
import { Heartbeats } from "../layers/Heartbeats.ts"
import { History } from "../layers/History.ts"
import { JsonSchemas } from "../layers/JsonSchemas.ts"
import * as Launch from "../layers/Launch.ts"
import { Lease } from "../layers/Lease.ts"
import { MasterKey } from "../layers/MasterKey.ts"
import * as McpListings from "../layers/McpListings.ts"
import * as Migrations from "../layers/Migrations.ts"
import { Pipeline } from "../layers/Pipeline.ts"
import { Plans } from "../layers/Plans.ts"
import { Redis } from "../layers/Redis.ts"
import { ChildRuns } from "../layers/ChildRuns.ts"
import { RunRights } from "../layers/RunRights.ts"
import { Secrets } from "../layers/Secrets.ts"
import * as Toolbox from "../layers/Toolbox.ts"
import { Wakeups } from "../layers/Wakeups.ts"
import { Worker } from "../layers/Worker.ts"
import * as WorkerLoop from "../layers/WorkerLoop.ts"

const Loops = Layer.mergeAll(WorkerLoop.loop, History.loop, McpListings.loop).pipe(
  Layer.provide([Worker.layer, History.layer]),
  Layer.provide(Pipeline.layer),
  Layer.provide(Toolbox.layer),
  Layer.provide(Events.layer),
  Layer.provide(AwaitedEvents.layer),
  Layer.provide([Plans.layer, ChildRuns.layer, RunRights.layer]),
  Layer.provide([Lease.layer, Extensions.layer, Secrets.layer]),
  Layer.provide([JsonSchemas.layer, Audit.layer, MasterKey.layer]),
  Layer.provide(Migrations.layerAwaited),
  Layer.provide(Clock.layerSynchronized)
)

const Main = Layer.merge(Loops, Listen.ops(8082)).pipe(
  Layer.provide(Health.layerOf("worker")),
  Layer.provide([Heartbeats.layer, Wakeups.layer, Redis.layer]),
  // Of what tells the health: how long ago the loops passed is no matter of the host's clock.
  Layer.provide(Clock.layer),
  Layer.provide(Db.layerNamed("ordinaut-worker"))
)

Launch.run("worker", Main)
