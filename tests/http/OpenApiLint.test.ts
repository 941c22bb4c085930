import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import spectral from "@stoplight/spectral-core"
import owasp from "@stoplight/spectral-owasp-ruleset"
import parsers from "@stoplight/spectral-parsers"
import rulesets from "@stoplight/spectral-rulesets"
import { apiServer } from "../support/ApiServer.ts"
import { served } from "../support/openApi.ts"

/** Texts of users are texts: a title has a length and no pattern. */
const off = ["owasp:api4:2023-string-restricted"]

/** What is open asks for no credentials and takes nothing that could be invalid; a probe is not counted, and so never refused. */
const ofOpen = new Set([
  "owasp:api2:2023-read-restricted",
  "owasp:api8:2023-define-error-responses-401",
  "owasp:api8:2023-define-error-validation"
])
const ofProbes = new Set(["owasp:api4:2023-rate-limit", "owasp:api4:2023-rate-limit-responses-429"])

layer(apiServer())("the OpenAPI document", (it) => {
  it.effect(
    "passes the linter of OpenAPI and OWASP's rules for APIs",
    () =>
      Effect.gen(function* () {
        const { document, json } = yield* served
        const open = new Set(
          Object.entries(document.paths).flatMap(([path, { get }]) => (get?.security.length === 0 ? path : []))
        )
        const linter = new spectral.Spectral()
        linter.setRuleset(
          new spectral.Ruleset({
            extends: [
              [rulesets.oas, "recommended"],
              [owasp, "all"]
            ],
            rules: Object.fromEntries(off.map((rule) => [rule, "off"]))
          })
        )
        const found = yield* Effect.promise(() =>
          linter.run(new spectral.Document(JSON.stringify(json), parsers.Json, "openapi.json"))
        )
        const excused = found.filter(({ code, path: [, path = ""] }) => {
          const route = String(path)
          const rule = String(code)
          return (ofOpen.has(rule) && open.has(route)) || (ofProbes.has(rule) && route.startsWith("/health"))
        })
        const left = found.filter((one) => !excused.includes(one))
        assert.deepStrictEqual(
          left.map(({ code, message, path }) => `${code} at ${path.join(".")}: ${message}`),
          []
        )
        // The rules are at work: they find what is excused.
        assert.isAbove(excused.length, 10)
      }),
    60_000
  )
})
