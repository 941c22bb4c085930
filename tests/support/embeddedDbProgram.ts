import { runMain } from "@effect/platform-node/NodeRuntime"
import { Console, Effect } from "effect"
import { EmbeddedDb } from "../../src/layers/EmbeddedDb.ts"

/** A program of its own on the embedded database: prints what it got as one line of JSON, then waits for its end. */
runMain(
  EmbeddedDb.pipe(
    Effect.flatMap((connection) => Console.log(JSON.stringify(connection))),
    Effect.zipRight(Effect.never),
    Effect.provide(EmbeddedDb.layer)
  )
)
