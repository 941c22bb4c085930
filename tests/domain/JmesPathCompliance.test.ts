import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { compile, search } from "../../src/domain/JmesPath.ts"
import type { JsonValue } from "../../src/domain/Json.ts"

interface Case {
  readonly expression: string
  readonly result?: JsonValue
  readonly error?: string
}

interface Group {
  readonly given: JsonValue
  readonly cases: ReadonlyArray<Case>
}

const folder = new URL("../data/jmespath-compliance/", import.meta.url)
const files = readdirSync(folder).filter((name) => name.endsWith(".json"))
const groupsOf = (file: string): ReadonlyArray<Group> => JSON.parse(readFileSync(new URL(file, folder), "utf8"))

/** Expressions of the public cases that are not held, each with its reason: none at present. */
const excluded: ReadonlyMap<string, string> = new Map()

describe("the public JMESPath cases", () => {
  for (const file of files) {
    it(file, () => {
      for (const [position, { cases, given }] of groupsOf(file).entries()) {
        for (const { error, expression, result } of cases.filter((each) => !excluded.has(each.expression))) {
          const found = compile(expression).pipe(Either.flatMap((compiled) => search(compiled, given)))
          const where = `${file}, group ${position}: ${expression}`
          if (error !== undefined) assert.isTrue(Either.isLeft(found), where)
          else
            assert.deepStrictEqual(
              Either.getOrElse(found, (failure) => failure.message),
              result,
              where
            )
        }
      }
    })
  }

  it("are all there", () => {
    const count = files.flatMap((file) => groupsOf(file)).flatMap((group) => group.cases).length
    assert.strictEqual(count, 892)
  })
})
