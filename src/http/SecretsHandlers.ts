import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Effect, Schema } from "effect"
import { SecretInfo } from "../domain/Secret.ts"
import { Secrets } from "../layers/Secrets.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import { pageRequest } from "./Requests.ts"

const encode = Schema.encode(SecretInfo)

export const SecretsHandlers = HttpApiBuilder.group(Api, "secrets", (handlers) =>
  Effect.map(Secrets, (secrets) =>
    handlers
      .handle("list", ({ urlParams }) =>
        Effect.gen(function* () {
          return yield* secrets.list(yield* CurrentAgent, yield* pageRequest(urlParams))
        })
      )
      .handle("put", ({ path, payload }) =>
        Effect.gen(function* () {
          const { created, secret } = yield* secrets.put(yield* CurrentAgent, path.name, payload)
          return HttpServerResponse.unsafeJson(yield* Effect.orDie(encode(secret)), { status: created ? 201 : 200 })
        })
      )
      .handle("remove", ({ path }) => Effect.flatMap(CurrentAgent, (actor) => secrets.remove(actor, path.name)))
  )
)
