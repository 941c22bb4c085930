import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Effect, Schema } from "effect"
import { ToolAddress } from "../domain/PipelineSpec.ts"
import { ExtensionRegistered } from "../domain/Registration.ts"
import { InvalidField } from "../domain/Task.ts"
import { Extensions } from "../layers/Extensions.ts"
import { Api } from "./Api.ts"
import { CurrentAgent } from "./Auth.ts"
import { ifMatch, pageRequest } from "./Requests.ts"

const encode = Schema.encode(ExtensionRegistered)

/** An extension with its version as ETag. */
const answer = (extension: ExtensionRegistered, status = 200, headers: Readonly<Record<string, string>> = {}) =>
  encode(extension).pipe(
    Effect.orDie,
    Effect.map((body) =>
      HttpServerResponse.unsafeJson(body, { status, headers: { etag: `"${extension.version}"`, ...headers } })
    )
  )

const isAddress = Schema.is(ToolAddress)

export const ExtensionsHandlers = HttpApiBuilder.group(Api, "extensions", (handlers) =>
  Effect.map(Extensions, (extensions) =>
    handlers
      .handle("tools", ({ urlParams: { cursor, limit } }) =>
        Effect.gen(function* () {
          if (cursor !== undefined && !isAddress(cursor))
            return yield* new InvalidField({ path: "query.cursor", message: "is no cursor of a list's next_cursor" })
          return yield* extensions.catalogue(yield* CurrentAgent, { limit: limit ?? 50, after: cursor ?? null })
        })
      )
      .handle("list", ({ urlParams }) =>
        Effect.gen(function* () {
          return yield* extensions.list(yield* CurrentAgent, yield* pageRequest(urlParams))
        })
      )
      .handle("get", ({ path }) =>
        Effect.gen(function* () {
          return yield* answer(yield* extensions.get(yield* CurrentAgent, path.name))
        })
      )
      .handle("put", ({ path, payload }) =>
        Effect.gen(function* () {
          const stored = yield* extensions.put(yield* CurrentAgent, path.name, payload, yield* ifMatch)
          return stored.created
            ? yield* answer(stored.extension, 201, { location: `/extensions/${path.name}` })
            : yield* answer(stored.extension)
        })
      )
      .handle("remove", ({ path }) =>
        Effect.gen(function* () {
          yield* extensions.remove(yield* CurrentAgent, path.name, yield* ifMatch)
        })
      )
  )
)
