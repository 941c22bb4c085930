import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Cause, Clock, Effect, Layer, Option } from "effect"
import { RequestId } from "../layers/Correlation.ts"
import * as Metrics from "../layers/Metrics.ts"
import { AgentsHandlers } from "./AgentsHandlers.ts"
import { Api } from "./Api.ts"
import * as Auth from "./Auth.ts"
import { EventsHandlers } from "./EventsHandlers.ts"
import { PipelinesHandlers } from "./PipelinesHandlers.ts"
import { ExtensionsHandlers } from "./ExtensionsHandlers.ts"
import * as Problem from "./Problem.ts"
import { BadRequest, guarded, maxBody, refusal } from "./Requests.ts"
import { RunsHandlers } from "./RunsHandlers.ts"
import { SchedulesHandlers } from "./SchedulesHandlers.ts"
import { SecretsHandlers } from "./SecretsHandlers.ts"
import { SystemHandlers } from "./SystemHandlers.ts"
import { TasksHandlers } from "./TasksHandlers.ts"
import { WorkHandlers } from "./WorkHandlers.ts"

/** Every route as (method, template, what matches it). */
const routes: ReadonlyArray<readonly [string, string, RegExp]> = (() => {
  const found: Array<readonly [string, string, RegExp]> = []
  for (const path of ["/openapi.json", "/docs"]) found.push(["GET", path, new RegExp(`^${path}/?$`)])
  HttpApi.reflect(Api, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint }) => {
      const template = endpoint.path.replace(/:(\w+)/g, "{$1}")
      found.push([endpoint.method, template, new RegExp(`^${endpoint.path.replace(/:\w+/g, "[^/]+")}/?$`)])
    }
  })
  return found
})()

const pathOf = (url: string) => url.split("?")[0] ?? url

/** The template of a request's route, for the metrics; `other` for those that have none. */
const routeOf = (method: string, path: string): string =>
  routes.find(([known, , matches]) => known === (method === "HEAD" ? "GET" : method) && matches.test(path))?.[1] ??
  "other"

const notFound = (method: string, path: string): BadRequest => {
  const known = routes.filter(([, , matches]) => matches.test(path)).map(([served]) => served)
  const allowed = [...new Set(known.flatMap((served) => (served === "GET" ? ["GET", "HEAD"] : [served])))]
  // A path that the router refused although the method is right bears an id that is too long, or no text.
  return allowed.length === 0 || allowed.includes(method)
    ? new BadRequest({ status: 404, code: "route_not_found", detail: `there is no ${method} ${path}` })
    : new BadRequest({
        status: 405,
        code: "method_not_allowed",
        detail: `${path} takes ${allowed.join(", ")}`,
        headers: { allow: allowed.join(", ") }
      })
}

const securityHeaders = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  // The docs page brings its script and style inline; nothing may be fetched from another host.
  "content-security-policy":
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
}

/** A request's id is echoed when it is a harmless one, else made. */
const requestIdOf = (given: string | undefined): string =>
  given !== undefined && /^[\w.:-]{1,128}$/.test(given) ? given : crypto.randomUUID()

/** The edge of the API: a request comes in with an id and a guarded body; whatever goes wrong goes out as a problem document. */
const edge = HttpApiBuilder.middleware((app) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const requestId = requestIdOf(request.headers["x-request-id"])
    const path = pathOf(request.url)
    const place = { method: request.method, instance: path, requestId }
    const started = yield* Clock.currentTimeMillis
    yield* HttpApp.appendPreResponseHandler((_, response) =>
      Effect.gen(function* () {
        const labels = { method: request.method, route: routeOf(request.method, path), status: String(response.status) }
        Metrics.httpRequests.add(1, labels)
        Metrics.httpDuration.add(((yield* Clock.currentTimeMillis) - started) / 1000, labels)
        return HttpServerResponse.setHeaders(response, { ...securityHeaders, "x-request-id": requestId })
      })
    )
    const refused = refusal(request)
    return yield* (refused === undefined ? app : Effect.fail(refused)).pipe(
      Effect.provideService(HttpServerRequest.HttpServerRequest, guarded(request)),
      Effect.provideService(RequestId, requestId),
      HttpIncomingMessage.withMaxBodySize(Option.some(maxBody)),
      Effect.catchAllCause((cause) => {
        if (Cause.isInterruptedOnly(cause)) return Effect.interrupt
        const error = Cause.squash(cause)
        const missing = typeof error === "object" && error !== null && "_tag" in error && error._tag === "RouteNotFound"
        const answer = Problem.toResponse(missing ? notFound(request.method, path) : error, place)
        return answer === undefined
          ? Effect.as(Effect.logError("A request failed unexpectedly.", cause), Problem.internal(place))
          : Effect.succeed(answer)
      }),
      Effect.annotateLogs({ request_id: requestId })
    )
  })
)

const groups = [
  TasksHandlers,
  RunsHandlers,
  SchedulesHandlers,
  PipelinesHandlers,
  EventsHandlers,
  AgentsHandlers,
  ExtensionsHandlers,
  SecretsHandlers,
  WorkHandlers,
  SystemHandlers
] as const

/** The whole API, to be given a server and the services. */
export const layer = HttpApiBuilder.serve().pipe(
  Layer.provide([
    edge,
    HttpApiBuilder.middlewareOpenApi({ path: "/openapi.json" }),
    HttpApiSwagger.layer({ path: "/docs" })
  ]),
  Layer.provide(HttpApiBuilder.api(Api)),
  Layer.provide(groups),
  Layer.provide(Auth.layer),
  Layer.provide(HttpRouter.setRouterConfig({ ignoreTrailingSlash: true, maxParamLength: 200 }))
)
