import { ConfigProvider, Effect, Layer, TestClock } from "effect"
import { Agents } from "../../src/layers/Agents.ts"
import { Approvals } from "../../src/layers/Approvals.ts"
import { Audit } from "../../src/layers/Audit.ts"
import { AuditKeeper } from "../../src/layers/AuditKeeper.ts"
import { AuditTrail } from "../../src/layers/AuditTrail.ts"
import { AuthFailures } from "../../src/layers/AuthFailures.ts"
import { AwaitedEvents } from "../../src/layers/AwaitedEvents.ts"
import { Backfills } from "../../src/layers/Backfills.ts"
import { ChildRuns } from "../../src/layers/ChildRuns.ts"
import { Draining } from "../../src/layers/Draining.ts"
import { DueTasks } from "../../src/layers/DueTasks.ts"
import { Events } from "../../src/layers/Events.ts"
import { EventStream } from "../../src/layers/EventStream.ts"
import { Extensions } from "../../src/layers/Extensions.ts"
import { Health } from "../../src/layers/Health.ts"
import { Heartbeats } from "../../src/layers/Heartbeats.ts"
import { History } from "../../src/layers/History.ts"
import { JsonSchemas } from "../../src/layers/JsonSchemas.ts"
import { Idempotency } from "../../src/layers/Idempotency.ts"
import { Lease } from "../../src/layers/Lease.ts"
import { LogTail } from "../../src/layers/LogTail.ts"
import { MasterKey } from "../../src/layers/MasterKey.ts"
import { Occurrences } from "../../src/layers/Occurrences.ts"
import { Pipeline } from "../../src/layers/Pipeline.ts"
import { Plans } from "../../src/layers/Plans.ts"
import { Pulse } from "../../src/layers/Pulse.ts"
import { Queue } from "../../src/layers/Queue.ts"
import { RateLimits } from "../../src/layers/RateLimits.ts"
import { Redis } from "../../src/layers/Redis.ts"
import { Reruns } from "../../src/layers/Reruns.ts"
import { RunRights } from "../../src/layers/RunRights.ts"
import { Runs } from "../../src/layers/Runs.ts"
import { Scheduler } from "../../src/layers/Scheduler.ts"
import { Secrets } from "../../src/layers/Secrets.ts"
import { SigningKeys } from "../../src/layers/SigningKeys.ts"
import { Tasks } from "../../src/layers/Tasks.ts"
import { TaskStates } from "../../src/layers/TaskStates.ts"
import { Tokens } from "../../src/layers/Tokens.ts"
import type { Tools } from "../../src/layers/Tools.ts"
import * as Toolbox from "../../src/layers/Toolbox.ts"
import { ToolBinding } from "../../src/layers/ToolBinding.ts"
import { Usages } from "../../src/layers/Usages.ts"
import { Wakeups } from "../../src/layers/Wakeups.ts"
import { WorkItems } from "../../src/layers/WorkItems.ts"
import { Worker } from "../../src/layers/Worker.ts"
import { dbAt, freshDatabase } from "./TestDb.ts"

/** The instant at which the tests' clock stands at first: a Monday. */
export const start = Date.UTC(2026, 2, 2, 9, 0, 0)

/** The master key of the tests' services, for a program that shares their database. */
export const secret = Buffer.from("a secret for tests that is long enough, and not the same byte").toString("base64")

const settings = (more: ReadonlyArray<readonly [string, string]>) =>
  Layer.setConfigProvider(ConfigProvider.fromMap(new Map([["ORDINAUT_SECRET", secret], ...more])))

/** Sets the tests' clock and makes the history of the days from then on. */
const ready = Layer.effectDiscard(
  Effect.zipRight(
    TestClock.setTime(start),
    Effect.flatMap(History, (history) => history.prepare)
  )
)

/**
 * Every service of the product over a fresh database and the tests' clock; no loop runs: a test takes each step itself.
 * `more` are settings; `pipeline` may run the steps with other tools.
 */
export const services = (
  more: ReadonlyArray<readonly [string, string]> = [],
  pipeline: Layer.Layer<Pipeline, never, Tools> = Pipeline.layer
) =>
  Layer.mergeAll(
    ready,
    Scheduler.layer,
    Occurrences.layer,
    Backfills.layer,
    Worker.layer,
    Tasks.layer,
    TaskStates.layer,
    Reruns.layer,
    Approvals.layer,
    WorkItems.layer,
    Health.layerOfApi(),
    Idempotency.layer,
    Tokens.layer,
    RateLimits.layer,
    AuthFailures.layer,
    LogTail.layer
  ).pipe(
    Layer.provideMerge(AuditKeeper.layer),
    Layer.provideMerge(Runs.layer),
    Layer.provideMerge(
      Layer.mergeAll(
        pipeline,
        AuditTrail.layer,
        Usages.layer,
        Agents.layer,
        SigningKeys.layer,
        Queue.layer,
        EventStream.layer,
        History.layer
      )
    ),
    Layer.provideMerge(DueTasks.layer),
    Layer.provideMerge(Layer.merge(Toolbox.layer, ToolBinding.layer)),
    Layer.provideMerge(Events.layer),
    Layer.provideMerge(AwaitedEvents.layer),
    Layer.provideMerge(Layer.mergeAll(Plans.layer, ChildRuns.layer, RunRights.layer, Heartbeats.layer)),
    Layer.provideMerge(Lease.layer),
    Layer.provideMerge(Layer.mergeAll(Extensions.layer, Secrets.layer)),
    Layer.provideMerge(JsonSchemas.layer),
    Layer.provideMerge(
      Layer.mergeAll(Audit.layer, Wakeups.layerLocal, Redis.layer, MasterKey.layer, Draining.layer, Pulse.layer)
    ),
    // Not `TestDb`, which is a database of its own wherever it is mentioned: all services share this one.
    Layer.provideMerge(Layer.unwrapScoped(Effect.map(freshDatabase, (url) => dbAt(url)))),
    Layer.provide(settings(more)),
    Layer.orDie
  )
