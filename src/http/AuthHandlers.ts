import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import { Effect } from "effect"
import { SigningKeys } from "../layers/SigningKeys.ts"
import { Tokens } from "../layers/Tokens.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"

export const AuthHandlers = HttpApiBuilder.group(Api, "auth", (handlers) =>
  Effect.gen(function* () {
    const tokens = yield* Tokens
    const keys = yield* SigningKeys
    return handlers
      .handle("token", ({ payload }) => Effect.flatMap(CurrentAgent, (caller) => tokens.issue(caller, payload)))
      .handle("revoke", ({ payload }) => Effect.flatMap(CurrentAgent, (caller) => tokens.revoke(caller, payload.jti)))
      .handle("keys", () => Effect.map(keys.published, (published) => ({ keys: published })))
  })
)
