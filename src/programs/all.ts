import { Layer } from "effect"
import * as Listen from "../http/Listen.ts"
import * as Server from "../http/Server.ts"
import * as Welcome from "../http/Welcome.ts"
import { Agents } from "../layers/Agents.ts"
import { Approvals } from "../layers/Approvals.ts"
import { Audit } from "../layers/Audit.ts"
import { AuditKeeper } from "../layers/AuditKeeper.ts"
import { AuditTrail } from "../layers/AuditTrail.ts"
import { AuthFailures } from "../layers/AuthFailures.ts"
import { AwaitedEvents } from "../layers/AwaitedEvents.ts"
import { Backfills } from "../layers/Backfills.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import { DueTasks } from "../layers/DueTasks.ts"
import { EmbeddedDb } from "../layers/EmbeddedDb.ts"
import { Events } from "../layers/Events.ts"
import { EventStream } from "../layers/EventStream.ts"
import { Extensions } from "../layers/Extensions.ts"
import { Health } from "../layers/Health.ts"
import { Heartbeats } from "../layers/Heartbeats.ts"
import { History } from "../layers/History.ts"
import { Idempotency } from "../layers/Idempotency.ts"
import * as Ingress from "../layers/Ingress.ts"
import { JsonSchemas } from "../layers/JsonSchemas.ts"
import * as Launch from "../layers/Launch.ts"
import { Lease } from "../layers/Lease.ts"
import { LogTail } from "../layers/LogTail.ts"
import { MasterKey } from "../layers/MasterKey.ts"
import * as McpListings from "../layers/McpListings.ts"
import * as Migrations from "../layers/Migrations.ts"
import { Pipeline } from "../layers/Pipeline.ts"
import { Plans } from "../layers/Plans.ts"
import { Occurrences } from "../layers/Occurrences.ts"
import { Queue } from "../layers/Queue.ts"
import { RateLimits } from "../layers/RateLimits.ts"
import { Redis } from "../layers/Redis.ts"
import { Reruns } from "../layers/Reruns.ts"
import * as Resealing from "../layers/Resealing.ts"
import { RunRights } from "../layers/RunRights.ts"
import { Runs } from "../layers/Runs.ts"
import { Scheduler } from "../layers/Scheduler.ts"
import { Secrets } from "../layers/Secrets.ts"
import { SigningKeys } from "../layers/SigningKeys.ts"
import { Tasks } from "../layers/Tasks.ts"
import { TaskStates } from "../layers/TaskStates.ts"
import { ChildRuns } from "../layers/ChildRuns.ts"
import { Tokens } from "../layers/Tokens.ts"
import * as Toolbox from "../layers/Toolbox.ts"
import { ToolBinding } from "../layers/ToolBinding.ts"
import { Usages } from "../layers/Usages.ts"
import { Wakeups } from "../layers/Wakeups.ts"
import { WorkItems } from "../layers/WorkItems.ts"
import { Worker } from "../layers/Worker.ts"
import * as WorkerLoop from "../layers/WorkerLoop.ts"

/** What can be asked and done, over runs, tools and events. */
const Services = Layer.mergeAll(
  Approvals.layer,
  WorkItems.layer,
  Tasks.layer,
  TaskStates.layer,
  Reruns.layer,
  Occurrences.layer,
  Health.layerOfApi("scheduler", "worker"),
  Idempotency.layer,
  Tokens.layer,
  Scheduler.layer,
  Worker.layer,
  LogTail.layer
).pipe(
  Layer.provideMerge(AuditKeeper.layer),
  Layer.provideMerge(Layer.mergeAll(Runs.layer, Queue.layer, Backfills.layer, EventStream.layer, ToolBinding.layer)),
  Layer.provideMerge(DueTasks.layer),
  Layer.provide(Pipeline.layer),
  Layer.provideMerge(Toolbox.layer)
)

const Main = Layer.mergeAll(
  Welcome.layer,
  Scheduler.loop,
  WorkerLoop.loop,
  EventStream.loop,
  Queue.loop,
  Ingress.loop,
  Resealing.layer,
  McpListings.loop,
  RateLimits.loop,
  AuthFailures.loop,
  AuditKeeper.loop
).pipe(
  Layer.provide(Server.layer),
  Layer.provide(Listen.api("127.0.0.1")),
  Layer.provide(Services),
  Layer.provide(Events.layer),
  Layer.provide([Plans.layer, ChildRuns.layer, RunRights.layer, AwaitedEvents.layer, Heartbeats.layer, History.layer]),
  Layer.provide([
    Agents.layer,
    AuditTrail.layer,
    Usages.layer,
    AuthFailures.layer,
    RateLimits.layer,
    SigningKeys.layer
  ]),
  Layer.provide(Lease.layer),
  Layer.provide([Extensions.layer, Secrets.layer]),
  Layer.provide(JsonSchemas.layer),
  Layer.provide([Audit.layer, Wakeups.layer, Redis.layer, MasterKey.layerGenerated]),
  Layer.provide(History.layerPrepared),
  Layer.provide(Migrations.layer),
  Layer.provide(Clock.layerSynchronized),
  Layer.provide(Db.layerNamed("ordinaut")),
  Layer.provide(EmbeddedDb.layerUnlessConfigured)
)

Launch.run("all", Main)
