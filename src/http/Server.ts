import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Cause, Clock, Effect, Layer, Option } from "effect"
import { Forbidden } from "../domain/Agent.ts"
import { RequestId } from "../layers/Correlation.ts"
import * as Metrics from "../layers/Metrics.ts"
import * as Admission from "./Admission.ts"
import { AgentsHandlers } from "./AgentsHandlers.ts"
import { Api } from "./Api.ts"
import { AuditHandlers } from "./AuditHandlers.ts"
import * as Auth from "./Auth.ts"
import { AuthHandlers } from "./AuthHandlers.ts"
import * as ClientAddress from "./ClientAddress.ts"
import * as Cors from "./Cors.ts"
import { EventsHandlers } from "./EventsHandlers.ts"
import { PipelinesHandlers } from "./PipelinesHandlers.ts"
import { ExtensionsHandlers } from "./ExtensionsHandlers.ts"
import { ofPaths } from "./OpenApiBounds.ts"
import * as Problem from "./Problem.ts"
import * as Refusals from "./Refusals.ts"
import { BadRequest, boundsOf, guarded, refusal } from "./Requests.ts"
import { RunsHandlers } from "./RunsHandlers.ts"
import { SchedulesHandlers } from "./SchedulesHandlers.ts"
import { securityHeaders } from "./SecurityHeaders.ts"
import { SecretsHandlers } from "./SecretsHandlers.ts"
import { StreamsHandlers } from "./StreamsHandlers.ts"
import { SystemHandlers } from "./SystemHandlers.ts"
import { TasksHandlers } from "./TasksHandlers.ts"
import { WorkHandlers } from "./WorkHandlers.ts"
import { Visit } from "./Visit.ts"
import type { Known } from "./Visit.ts"

/** Every route as (method, template, what matches it, whether it asks for credentials). */
const routes: ReadonlyArray<readonly [string, string, RegExp, boolean]> = (() => {
  const found: Array<readonly [string, string, RegExp, boolean]> = []
  for (const path of ["/openapi.json", "/docs"]) found.push(["GET", path, new RegExp(`^${path}/?$`), false])
  HttpApi.reflect(Api, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint, middleware }) => {
      const template = endpoint.path.replace(/:(\w+)/g, "{$1}")
      const matches = new RegExp(`^${endpoint.path.replace(/:\w+/g, "[^/]+")}/?$`)
      found.push([endpoint.method, template, matches, [...middleware].some(HttpApiMiddleware.isSecurity)])
    }
  })
  return found
})()

const pathOf = (url: string) => url.split("?")[0] ?? url

/** A request's route: its template, `other` where there is none, and whether it asks for credentials. */
const routeOf = (method: string, path: string) => {
  const wanted = method === "HEAD" ? "GET" : method
  const [, template, , guardedBy] = routes.find(([known, , matches]) => known === wanted && matches.test(path)) ?? []
  return { template: template ?? "other", asksWho: guardedBy ?? false }
}

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

/** The scope that a refused request lacks, where it is a scope. */
const scopeOf = (error: unknown): string | null => (error instanceof Forbidden ? error.scope : null)

/** A request's id is echoed when it is a harmless one, else made. */
const requestIdOf = (given: string | undefined): string =>
  given !== undefined && /^[\w.:-]{1,128}$/.test(given) ? given : crypto.randomUUID()

/**
 * The edge of the API: a request comes in with an id, a client that is within its limits, and a guarded body; whatever goes wrong
 * goes out as a problem document, and a refused authorization into the trail.
 */
const edge = HttpApiBuilder.middleware(
  Effect.gen(function* () {
    const addressOf = yield* ClientAddress.make
    const admit = yield* Admission.make
    const recordRefusal = yield* Refusals.recording
    const cors = yield* Cors.make
    return (app) =>
      Effect.gen(function* () {
        const request = yield* HttpServerRequest.HttpServerRequest
        const requestId = requestIdOf(request.headers["x-request-id"])
        const path = pathOf(request.url)
        const route = routeOf(request.method, path)
        const place = { method: request.method, instance: path, requestId }
        const visit: Known = { address: addressOf(request), caller: null }
        const started = yield* Clock.currentTimeMillis
        yield* HttpApp.appendPreResponseHandler((_, response) =>
          Effect.gen(function* () {
            const labels = { method: request.method, route: route.template, status: String(response.status) }
            Metrics.httpRequests.add(1, labels)
            Metrics.httpDuration.add(((yield* Clock.currentTimeMillis) - started) / 1000, labels)
            return HttpServerResponse.setHeaders(response, {
              ...securityHeaders,
              ...cors.headers(request),
              "x-request-id": requestId
            })
          })
        )
        const preflight = cors.preflight(request)
        if (preflight !== undefined) return preflight
        const refused = refusal(request)
        return yield* admit(visit.address, path, route.asksWho && refused === undefined).pipe(
          Effect.zipRight(refused === undefined ? app : Effect.fail(refused)),
          Effect.provideService(Visit, visit),
          Effect.provideService(HttpServerRequest.HttpServerRequest, guarded(request)),
          HttpIncomingMessage.withMaxBodySize(Option.some(boundsOf(request).bytes)),
          Effect.catchAllCause((cause) => {
            if (Cause.isInterruptedOnly(cause)) return Effect.interrupt
            const error = Cause.squash(cause)
            const missing =
              typeof error === "object" && error !== null && "_tag" in error && error._tag === "RouteNotFound"
            const answer = Problem.toResponse(missing ? notFound(request.method, path) : error, place)
            if (answer === undefined) {
              return Effect.as(Effect.logError("A request failed unexpectedly.", cause), Problem.internal(place))
            }
            if (answer.status !== 403) return Effect.succeed(answer)
            const refusedFor = { method: request.method, route: route.template, path }
            return Effect.as(recordRefusal(visit, refusedFor, scopeOf(error)), answer)
          }),
          Effect.provideService(RequestId, requestId),
          Effect.annotateLogs({ request_id: requestId })
        )
      })
  })
)

const groups = [
  TasksHandlers,
  RunsHandlers,
  StreamsHandlers,
  SchedulesHandlers,
  PipelinesHandlers,
  EventsHandlers,
  AgentsHandlers,
  ExtensionsHandlers,
  SecretsHandlers,
  WorkHandlers,
  AuthHandlers,
  AuditHandlers,
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
  Layer.provide(HttpRouter.setRouterConfig({ ignoreTrailingSlash: true, maxParamLength: ofPaths.characters }))
)
