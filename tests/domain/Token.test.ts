import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { allows, permissions } from "../../src/domain/Agent.ts"
import { common, readTokenId, tokenId } from "../../src/domain/Token.ts"

const scopes = [...permissions, ...new Set(permissions.map((one) => `${one.split(":")[0]}:*`)), "admin"]
const held = fc.subarray(scopes, { maxLength: 6 })

describe("what two lists of scopes have in common", () => {
  it("allows exactly what both allow", () => {
    fc.assert(
      fc.property(held, held, (one, other) => {
        const both = common(one, other)
        for (const permission of permissions) {
          assert.strictEqual(allows(both, permission), allows(one, permission) && allows(other, permission), permission)
        }
        assert.strictEqual(both.includes("admin"), one.includes("admin") && other.includes("admin"))
      }),
      { numRuns: 500 }
    )
  })
})

describe("the id of a token", () => {
  const agent_id = "019cadc6-9a80-7000-8000-000000000000"
  const id = { agent_id, key_id: "00aBcDeFgH12", expires: 1_772_442_900 }
  const random = "AAAAAAAAAAAAAAAAAAAAAA"

  it("says whose the token is, which key bought it and when it ends", () => {
    assert.deepStrictEqual(readTokenId(tokenId(id, random)), id)
  })

  it("is nothing else", () => {
    const good = tokenId(id, random)
    for (const bad of [
      "",
      agent_id,
      `${good}A`,
      ` ${good}`,
      good.toUpperCase(),
      good.slice(0, -1),
      good.replace(".", "")
    ]) {
      assert.isUndefined(readTokenId(bad), bad)
    }
  })
})
