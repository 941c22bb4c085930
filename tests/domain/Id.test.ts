import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as ApiKey from "../../src/domain/ApiKey.ts"
import { isId, uuidV7 } from "../../src/domain/Id.ts"
import { pageOf } from "../../src/domain/Page.ts"

const instant = fc.integer({ min: 0, max: 2 ** 48 - 1 })
const sequence = fc.integer({ min: 0, max: 4095 })
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

describe("ids", () => {
  it("are UUIDs of version 7 and the RFC's variant (RFC 9562, appendix A.6)", () => {
    // The RFC's example: 0x17F22E279B0 ms, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    const random = Uint8Array.from([0, 0, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f])
    assert.strictEqual(uuidV7(0x17f22e279b0, random, 0xcc3), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    fc.assert(
      fc.property(instant, bytes(10), sequence, (millis, random, number) => {
        const id = uuidV7(millis, random, number)
        assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
        assert.isTrue(isId(id))
        assert.strictEqual(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16), millis)
      })
    )
  })

  it("order as their instants do, and within one by their sequence, as text", () => {
    const moment = fc.tuple(fc.oneof(fc.constant(1), instant), sequence)
    fc.assert(
      fc.property(moment, moment, bytes(10), bytes(10), ([a, m], [b, n], one, other) => {
        fc.pre(a !== b || m !== n)
        assert.strictEqual(uuidV7(a, one, m) < uuidV7(b, other, n), a < b || (a === b && m < n))
      })
    )
  })

  it("are told from other texts", () => {
    for (const text of [
      "",
      "1",
      "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
      "017f22e279b07cc398c4dc0c0c07398f",
      "x17f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    ]) {
      assert.isFalse(isId(text), text)
    }
  })
})

describe("API keys", () => {
  it("carry their id and a checksum that any changed character breaks", () => {
    const { id, text } = ApiKey.fromRandom(randomBytes(41))
    assert.match(text, /^ord_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/)
    assert.deepStrictEqual(ApiKey.parse(text), { id, text })
    for (let i = 0; i < text.length; i++) {
      const other = text[i] === "0" ? "1" : "0"
      assert.strictEqual(ApiKey.parse(text.slice(0, i) + other + text.slice(i + 1)), undefined, `at ${i}`)
    }
  })

  it("have the CRC-32 of what stands before it (ISO 3309)", () => {
    const { text } = ApiKey.fromRandom(new Uint8Array(41))
    // crc32("ord_" + 12 zeros + "_" + 43 zeros), by zlib.
    assert.strictEqual(text, `ord_${"0".repeat(12)}_${"0".repeat(43)}_1M4pUw`)
  })

  it("are as different as their random bytes, and are told from other texts", () => {
    fc.assert(
      fc.property(bytes(41), (random) => {
        const { id, text } = ApiKey.fromRandom(random)
        assert.strictEqual(ApiKey.parse(text)?.id, id)
        const flipped = random.slice()
        flipped[40] = (flipped[40] ?? 0) ^ 1
        assert.notStrictEqual(ApiKey.fromRandom(flipped).text, text)
      })
    )
    const { text } = ApiKey.fromRandom(randomBytes(41))
    for (const other of ["", "ord_", `${text} `, `${text}\n`, text.toUpperCase(), text.slice(0, -1), `x${text}`]) {
      assert.strictEqual(ApiKey.parse(other), undefined, other)
    }
  })
})

describe("pages", () => {
  it("name the last item as cursor while there is more", () => {
    const items = ["c", "b", "a"].map((id) => ({ id }))
    assert.deepStrictEqual(pageOf(items, 2), { items: items.slice(0, 2), next_cursor: "b" })
    assert.deepStrictEqual(pageOf(items, 3), { items, next_cursor: null })
    assert.deepStrictEqual(pageOf([], 3), { items: [], next_cursor: null })
  })
})
