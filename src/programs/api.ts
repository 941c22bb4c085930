import * as HttpServer from "@effect/platform/HttpServer"
import { Layer } from "effect"
import * as Listen from "../http/Listen.ts"
import * as Server from "../http/Server.ts"
import { Agents } from "../layers/Agents.ts"
import { Approvals } from "../layers/Approvals.ts"
import { Audit } from "../layers/Audit.ts"
import { AuditKeeper } from "../layers/AuditKeeper.ts"
import { AuditTrail } from "../layers/AuditTrail.ts"
import { AuthFailures } from "../layers/AuthFailures.ts"
import { Backfills } from "../layers/Backfills.ts"
import { AwaitedEvents } from "../layers/AwaitedEvents.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import { Events } from "../layers/Events.ts"
import { EventStream } from "../layers/EventStream.ts"
import { Extensions } from "../layers/Extensions.ts"
import { Health } from "../layers/Health.ts"
import { Heartbeats } from "../layers/Heartbeats.ts"
import { History } from "../layers/History.ts"
import { JsonSchemas } from "../layers/JsonSchemas.ts"
import { Idempotency } from "../layers/Idempotency.ts"
import * as Launch from "../layers/Launch.ts"
import { Lease } from "../layers/Lease.ts"
import { LogTail } from "../layers/LogTail.ts"
import { MasterKey } from "../layers/MasterKey.ts"
import * as Migrations from "../layers/Migrations.ts"
import { Occurrences } from "../layers/Occurrences.ts"
import { Queue } from "../layers/Queue.ts"
import { RateLimits } from "../layers/RateLimits.ts"
import { Redis } from "../layers/Redis.ts"
import { Reruns } from "../layers/Reruns.ts"
import * as Resealing from "../layers/Resealing.ts"
import { Runs } from "../layers/Runs.ts"
import { Secrets } from "../layers/Secrets.ts"
import { SigningKeys } from "../layers/SigningKeys.ts"
import { Tasks } from "../layers/Tasks.ts"
import { TaskStates } from "../layers/TaskStates.ts"
import { Tokens } from "../layers/Tokens.ts"
import { ToolBinding } from "../layers/ToolBinding.ts"
import { WorkItems } from "../layers/WorkItems.ts"
import { Usages } from "../layers/Usages.ts"
import { Wakeups } from "../layers/Wakeups.ts"

const Loops = Layer.mergeAll(
  EventStream.loop,
  Queue.loop,
  History.loop,
  Resealing.layer,
  RateLimits.loop,
  AuthFailures.loop,
  AuditKeeper.loop
).pipe(Layer.provide([History.layer, AuditKeeper.layer]), Layer.provide(Migrations.layerAwaited))

const Main = Layer.merge(HttpServer.withLogAddress(Server.layer), Loops).pipe(
  Layer.provide(Listen.api("0.0.0.0")),
  Layer.provide(Reruns.layer),
  Layer.provide([
    Tasks.layer,
    TaskStates.layer,
    Backfills.layer,
    Occurrences.layer,
    Runs.layer,
    Approvals.layer,
    WorkItems.layer,
    Events.layer
  ]),
  Layer.provide([ToolBinding.layer, AwaitedEvents.layer]),
  Layer.provide(LogTail.layer),
  Layer.provide(Health.layerOfApi()),
  Layer.provide([AuditKeeper.layer, Queue.layer, EventStream.layer, Idempotency.layer, Tokens.layer]),
  Layer.provide([Extensions.layer, Secrets.layer]),
  Layer.provide([Lease.layer, Heartbeats.layer]),
  Layer.provide([
    Agents.layer,
    AuditTrail.layer,
    Usages.layer,
    AuthFailures.layer,
    RateLimits.layer,
    SigningKeys.layer
  ]),
  Layer.provide([JsonSchemas.layer, Audit.layer, Wakeups.layer, Redis.layer, MasterKey.layer]),
  Layer.provide(Clock.layer),
  Layer.provide(Db.layerNamed("ordinaut-api"))
)

Launch.run("api", Main)
