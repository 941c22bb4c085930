import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer, request } from "../support/ApiServer.ts"
import { mutations, owner } from "../support/mutations.ts"
import type { Mutation } from "../support/mutations.ts"
import { served } from "../support/openApi.ts"

/** Every value of a key, however deep. */
const valuesOf = (value: unknown, key: string): ReadonlyArray<unknown> =>
  typeof value !== "object" || value === null
    ? []
    : Object.entries(value).flatMap(([name, held]) => [...(name === key ? [held] : []), ...valuesOf(held, key)])

layer(apiServer())("the OpenAPI document", (it) => {
  it.effect("is OpenAPI 3.1 with no reference that dangles", () =>
    Effect.gen(function* () {
      const { document, json } = yield* served
      assert.match(document.openapi, /^3\.1\.\d+$/)
      assert.deepStrictEqual(Object.keys(document.components.securitySchemes), ["bearer"])
      const references = valuesOf(json, "$ref")
      assert.isAbove(references.length, 50)
      for (const reference of references) {
        const [, kind = "", name = ""] = /^#\/components\/(schemas|headers)\/([\w.-]+)$/.exec(String(reference)) ?? []
        assert.property(Object(document.components)[kind], name, String(reference))
      }
    })
  )

  it.effect("describes every operation once, each with the parameters of its path", () =>
    Effect.gen(function* () {
      const { routes } = yield* served
      const names = routes.map(({ operation }) => operation.operationId)
      assert.lengthOf(new Set(names), names.length)
      for (const { method, operation, path } of routes) {
        const inPath = operation.parameters.filter((parameter) => parameter.in === "path")
        const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
        assert.deepStrictEqual(
          inPath.map(({ name }) => name),
          named,
          path
        )
        assert.isTrue(inPath.every(({ required }) => required))
        if (method === "GET") assert.isUndefined(operation.requestBody, path)
      }
    })
  )

  it.effect("every error is a problem document, and each guarded route says that it may refuse", () =>
    Effect.gen(function* () {
      const { routes } = yield* served
      for (const { method, operation, path } of routes) {
        const statuses = Object.keys(operation.responses)
        assert.isTrue(
          statuses.some((status) => status < "300"),
          path
        )
        for (const [status, { content }] of Object.entries(operation.responses)) {
          if (status < "400") continue
          assert.deepStrictEqual(
            content as unknown,
            { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } },
            `${method} ${path} ${status}`
          )
        }
        assert.include(statuses, "500", path)
        assert.strictEqual(statuses.includes("429"), !path.startsWith("/health"), path)
        if (operation.security.length > 0) assert.includeMembers(statuses, ["401", "403", "422", "503"], path)
        if (method !== "GET" && method !== "DELETE") assert.includeMembers(statuses, ["400", "413", "415"], path)
        if (path.includes("{id}")) assert.include(statuses, "404", path)
      }
    })
  )

  it.effect("requires a body only where one is required, and says of each what it holds", () =>
    Effect.gen(function* () {
      const { document, routes } = yield* served
      const bodies = routes.flatMap(({ method, operation, path }) =>
        operation.requestBody === undefined ? [] : [{ name: `${method} ${path}`, body: operation.requestBody }]
      )
      const required = bodies.filter(({ body }) => body.required).map(({ name }) => name)
      assert.includeMembers(required, ["POST /tasks", "POST /events", "POST /agents", "POST /schedules/preview"])
      assert.notInclude(required, "POST /tasks/{id}/pause")
      for (const { body, name } of bodies) {
        const schema =
          document.components.schemas[body.content["application/json"].schema.$ref?.split("/").at(-1) ?? ""]
        assert.include(schema as object, { type: "object", additionalProperties: false }, name)
      }
    })
  )
})

/** What an example cannot know. */
const known = new Set(["lease_token", "jti"])

layer(apiServer())("the examples of the document", (it) => {
  it.effect("are taken as they are, every one by its operation", () =>
    Effect.gen(function* () {
      const { routes } = yield* served
      const by = yield* owner("example")
      const failed: Array<string> = []
      let executed = 0
      for (const [n, { method, operation, path }] of routes.entries()) {
        if (operation.requestBody === undefined) continue
        const name = `${method} ${path}`
        const beat = name.endsWith("/heartbeat")
        const prepare = mutations[beat ? name.replace("/heartbeat", "/complete") : name]
        const made: Mutation = prepare === undefined ? { path } : yield* prepare(by, n)
        const { example } = operation.requestBody.content["application/json"]
        const learned = Object.entries(Object(made.body)).filter(([field]) => known.has(field) && field in example)
        const answer = yield* request(method, beat ? made.path.replace("/complete", "/heartbeat") : made.path, {
          key: made.key ?? by.key,
          body: { ...example, ...Object.fromEntries(learned) }
        })
        if (answer.status >= 300) failed.push(`${name} ${answer.status} ${answer.text}`)
        executed += 1
      }
      assert.deepStrictEqual(failed, [])
      assert.isAbove(executed, 25)
    })
  )
})

layer(apiServer())("the headers that the document names", (it) => {
  it.effect("are those that are sent, and no answer bears one that it does not name", () =>
    Effect.gen(function* () {
      const { document, routes } = yield* served
      const known = Object.keys(document.components.headers ?? {})
      const by = yield* owner("header")
      const ask = [
        ...Object.entries(mutations),
        ...["/tasks", "/runs", "/health", "/queue", "/.well-known/jwks.json", "/tasks/nope"].map(
          (path) => [`GET ${path === "/tasks/nope" ? "/tasks/{id}" : path}`, () => Effect.succeed({ path })] as const
        )
      ]
      let looked = 0
      for (const [n, [name, prepare]] of ask.entries()) {
        const { body, key = by.key, path }: Mutation = yield* prepare(by, n)
        const [method = ""] = name.split(" ")
        const answer = yield* request(method, path, body === undefined ? { key } : { key, body })
        const route = routes.find((each) => `${each.method} ${each.path}` === name)
        const told = route?.operation.responses[String(answer.status)]
        const named = Object.keys(told?.headers ?? {})
        const sent = known.filter((header) => answer.headers.has(header))
        // Cross-origin answers are for origins that are listed, and here is none.
        assert.deepStrictEqual(
          sent.toSorted(),
          named.filter((header) => header !== "Access-Control-Allow-Origin").toSorted(),
          `${name} ${answer.status}`
        )
        looked += 1
      }
      assert.isAbove(looked, 35)
    })
  )
})

layer(apiServer())("the documentation page", (it) => {
  it.effect("brings all it needs: a browser asks no other host", () =>
    Effect.gen(function* () {
      const answer = yield* request("GET", "/docs", { key: null })
      assert.strictEqual(answer.status, 200)
      assert.match(answer.headers.get("content-type") ?? "", /^text\/html/)
      const html = answer.text.replace(/<script\b[^>]*>[^]*?<\/script>|<style\b[^>]*>[^]*?<\/style>/g, (block) =>
        block.slice(0, block.indexOf(">") + 1)
      )
      assert.notMatch(html, /\b(?:src|href|action|data|poster|srcset)\s*=\s*["']?\s*(?:https?:)?\/\//i)
      const styles = [...answer.text.matchAll(/<style\b[^>]*>([^]*?)<\/style>/g)].map(([, css]) => css).join("\n")
      assert.isAbove(styles.length, 0)
      assert.notMatch(styles, /@import|url\(\s*["']?\s*(?:https?:)?\/\//i)
      const policy = answer.headers.get("content-security-policy") ?? ""
      assert.match(policy, /default-src 'self'/)
      assert.notMatch(policy, /https?:|\*/)
    })
  )

  it.effect("every answer bears the headers that keep a browser out of trouble, and names no product", () =>
    Effect.gen(function* () {
      for (const path of ["/docs", "/health", "/tasks", "/nope", "/openapi.json"]) {
        const { headers } = yield* request("GET", path, { key: null })
        assert.strictEqual(headers.get("x-content-type-options"), "nosniff", path)
        assert.strictEqual(headers.get("x-frame-options"), "DENY", path)
        assert.strictEqual(headers.get("cache-control"), "no-store", path)
        assert.isNotNull(headers.get("content-security-policy"), path)
        for (const absent of ["server", "x-powered-by", "access-control-allow-origin"]) {
          assert.isNull(headers.get(absent), `${path} ${absent}`)
        }
      }
    })
  )
})
