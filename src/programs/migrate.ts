import { Effect, Layer } from "effect"
import { Agents } from "../layers/Agents.ts"
import { Audit } from "../layers/Audit.ts"
import * as Clock from "../layers/Clock.ts"
import * as Db from "../layers/Db.ts"
import * as FirstAdmin from "../layers/FirstAdmin.ts"
import { History } from "../layers/History.ts"
import * as Launch from "../layers/Launch.ts"
import { MasterKey } from "../layers/MasterKey.ts"
import * as Migrations from "../layers/Migrations.ts"

const FirstAdminLayer = Layer.effectDiscard(FirstAdmin.fromSettings).pipe(
  Layer.provide(Agents.layer),
  Layer.provide([Audit.layer, MasterKey.layer])
)

const Main = Layer.mergeAll(FirstAdminLayer, History.layerPrepared).pipe(
  Layer.provide(Migrations.layer),
  Layer.provide(Clock.layerSynchronized),
  Layer.provide(Layer.effectDiscard(Db.admitted)),
  Layer.provide(MasterKey.layer),
  Layer.provide(Db.layerNamed("ordinaut-migrate"))
)

Launch.once("migrate", Effect.scoped(Layer.build(Main)))
