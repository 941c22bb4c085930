import { Effect, Layer } from "effect"
import { AuditTrail } from "../layers/AuditTrail.ts"
import * as AuditReport from "../layers/AuditReport.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import { EmbeddedDb } from "../layers/EmbeddedDb.ts"
import * as Launch from "../layers/Launch.ts"
import { MasterKey } from "../layers/MasterKey.ts"

const Services = AuditTrail.layer.pipe(
  Layer.provide(Clock.layerSynchronized),
  Layer.provide(Layer.effectDiscard(Db.admitted)),
  Layer.provide(Db.layerNamed("ordinaut-audit-verify")),
  Layer.provide(EmbeddedDb.layerOfExisting),
  // The last, and so the first that is asked: without the secret no database is started.
  Layer.provide(MasterKey.layerKept)
)

Launch.once("audit-verify", Effect.provide(AuditReport.whole(process.argv.slice(2)), Services))
