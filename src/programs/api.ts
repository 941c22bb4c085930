import * as HttpServer from "@effect/platform/HttpServer"
import { Layer } from "effect"
import * as Listen from "../http/Listen.ts"
import * as Server from "../http/Server.ts"
import { Agents } from "../layers/Agents.ts"
import { Audit } from "../layers/Audit.ts"
import { AuditKeeper } from "../layers/AuditKeeper.ts"
import { AuditTrail } from "../layers/AuditTrail.ts"
import { AuthFailures } from "../layers/AuthFailures.ts"
import { Backfills } from "../layers/Backfills.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import { Events } from "../layers/Events.ts"
import { EventStream } from "../layers/EventStream.ts"
import { Health } from "../layers/Health.ts"
import { Heartbeats } from "../layers/Heartbeats.ts"
import { History } from "../layers/History.ts"
import { Idempotency } from "../layers/Idempotency.ts"
import * as Launch from "../layers/Launch.ts"
import { Lease } from "../layers/Lease.ts"
import { MasterKey } from "../layers/MasterKey.ts"
import * as Migrations from "../layers/Migrations.ts"
import { Occurrences } from "../layers/Occurrences.ts"
import { Queue } from "../layers/Queue.ts"
import { RateLimits } from "../layers/RateLimits.ts"
import { Redis } from "../layers/Redis.ts"
import { Runs } from "../layers/Runs.ts"
import { SigningKeys } from "../layers/SigningKeys.ts"
import { Tasks } from "../layers/Tasks.ts"
import { TaskStates } from "../layers/TaskStates.ts"
import { Tokens } from "../layers/Tokens.ts"
import { Wakeups } from "../layers/Wakeups.ts"

const Loops = Layer.mergeAll(
  EventStream.loop,
  Queue.loop,
  History.loop,
  RateLimits.loop,
  AuthFailures.loop,
  AuditKeeper.loop
).pipe(Layer.provide([History.layer, AuditKeeper.layer]), Layer.provide(Migrations.layerAwaited))

const Main = Layer.merge(HttpServer.withLogAddress(Server.layer), Loops).pipe(
  Layer.provide(Listen.api("0.0.0.0")),
  Layer.provide([Tasks.layer, TaskStates.layer, Backfills.layer, Occurrences.layer, Runs.layer, Events.layer]),
  Layer.provide([Health.layer, Queue.layer, EventStream.layer, Idempotency.layer, Tokens.layer]),
  Layer.provide([
    Lease.layer,
    Agents.layer,
    AuditTrail.layer,
    AuthFailures.layer,
    RateLimits.layer,
    SigningKeys.layer,
    Heartbeats.layer
  ]),
  Layer.provide([Audit.layer, Wakeups.layer, Redis.layer, MasterKey.layer]),
  Layer.provide(Clock.layer),
  Layer.provide(Db.layerNamed("ordinaut-api"))
)

Launch.run("api", Main)
