import { readFileSync } from "node:fs"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer } from "../support/ApiServer.ts"
import { contractBreaks } from "../support/contractBreaks.ts"
import { served } from "../support/openApi.ts"

const known: unknown = JSON.parse(readFileSync(new URL("../data/openapi.json", import.meta.url), "utf8"))

/** The document with one place changed; `path` is of names, and must lead somewhere. */
const changed = (path: ReadonlyArray<string>, change: (old: never) => unknown): unknown => {
  const copy = structuredClone(known)
  let at = copy as Record<string, never>
  for (const name of path.slice(0, -1)) {
    assert.property(at, name, path.join("/"))
    at = at[name] as unknown as Record<string, never>
  }
  const last = path.at(-1) ?? ""
  const value = change(at[last] as never)
  if (value === undefined) delete at[last]
  else at[last] = value as never
  return copy
}

const schema = (name: string, ...rest: ReadonlyArray<string>) => ["components", "schemas", name, ...rest]

layer(apiServer())("the contract", (it) => {
  it.effect("holds for clients that were written against the document of the repository", () =>
    Effect.gen(function* () {
      const { json } = yield* served
      assert.deepStrictEqual([...contractBreaks(known, json)], [])
    })
  )

  it.effect("would be broken by these changes, and by none of those", () =>
    Effect.sync(() => {
      const without = (name: string) => (old: ReadonlyArray<unknown>) => old.filter((one) => one !== name)
      const withOne = (name: string) => (old: ReadonlyArray<unknown>) => [...(old ?? []), name]
      const breaking: ReadonlyArray<readonly [unknown, string]> = [
        [changed(["paths", "/tasks/{id}"], () => undefined), "GET /tasks/{id}: is gone"],
        [changed(["paths", "/tasks", "post"], () => undefined), "POST /tasks: is gone"],
        [changed(schema("EventCreate", "required"), withOne("dedupe_key")), "dedupe_key: is required"],
        [changed(schema("EventCreate", "properties", "dedupe_key"), () => undefined), "dedupe_key: is gone"],
        [changed(schema("HealthReport", "required"), without("version") as never), "version: may be absent"],
        [changed(schema("HealthReport", "properties", "version"), () => ({ type: "integer" })), "its type was"],
        [changed(schema("Scope", "enum"), without("tasks:read") as never), 'lacks the values "tasks:read"'],
        [changed(schema("EventCreate", "properties", "dedupe_key", "maxLength"), () => 10), "its maxLength was"],
        [changed(["paths", "/events", "post", "responses", "202"], () => undefined), "answers no 202"],
        [
          changed(["paths", "/tasks/{id}/pause", "post", "requestBody", "required"], () => true),
          "its body is required"
        ],
        [changed(["paths", "/health", "get", "security"], () => [{ bearer: [] }]), "asks for credentials"],
        [
          changed(["paths", "/runs", "get", "parameters"], (old: ReadonlyArray<{ name: string }>) =>
            old.filter(({ name }) => name !== "state")
          ),
          "query.state: is gone"
        ],
        [
          changed(["paths", "/runs", "get", "parameters"], (old: ReadonlyArray<object>) => [
            ...old,
            { name: "new", in: "query", required: true, schema: { type: "string" } }
          ]),
          "query.new: is required"
        ]
      ]
      for (const [document, sentence] of breaking) {
        assert.include(contractBreaks(known, document).join("\n"), sentence)
      }
      const kind: ReadonlyArray<unknown> = [
        changed(["paths", "/new"], () => ({ get: { parameters: [], responses: {} } })),
        changed(schema("EventCreate", "properties", "new"), () => ({ type: "string" })),
        changed(schema("HealthReport", "properties", "new"), () => ({ type: "string" })),
        changed(schema("EventCreate", "required"), without("payload") as never),
        changed(schema("Scope", "enum"), withOne("new:scope")),
        changed(schema("EventCreate", "properties", "dedupe_key", "maxLength"), () => 1000),
        changed(["paths", "/events", "post", "responses", "415"], () => undefined)
      ]
      for (const document of kind) assert.deepStrictEqual([...contractBreaks(known, document)], [])
    })
  )
})
