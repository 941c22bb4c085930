import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import * as Sealing from "../../src/layers/Sealing.ts"

const place = { table: "secret", namespace: "main", name: "token" }
const value = Buffer.from("a canary that nobody may read")
const changed = (bytes: Uint8Array, at: number) => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte))

describe("what is sealed", () => {
  const old = randomBytes(32)
  const young = randomBytes(32)
  const before = Sealing.make([old])
  const sealed = before.seal(place, value)

  it("holds nothing of the value, differs each time, and opens at its place", () => {
    assert.isFalse(Buffer.from(sealed.sealed).includes("canary"))
    assert.notDeepEqual(before.seal(place, value).sealed, sealed.sealed)
    assert.notDeepEqual(before.seal(place, value).data_key, sealed.data_key)
    assert.deepStrictEqual(Either.map(before.open(place, sealed), String), Either.right(value.toString()))
    assert.strictEqual(
      Buffer.from(Either.getOrThrow(before.open(place, before.seal(place, new Uint8Array())))).length,
      0
    )
  })

  it("does not open in another row", () => {
    for (const other of [
      { ...place, table: "extension" },
      { ...place, namespace: "other" },
      { ...place, name: "other" }
    ]) {
      const opened = before.open(other, sealed)
      assert.isTrue(Either.isLeft(opened) && opened.left.reason === "tampered")
    }
  })

  it("does not open when any byte of it was changed", () => {
    for (const field of ["sealed", "data_key"] as const) {
      for (let at = 0; at < sealed[field].length; at++) {
        const opened = before.open(place, { ...sealed, [field]: changed(sealed[field], at) })
        assert.isTrue(Either.isLeft(opened) && opened.left.reason === "tampered", `${field} ${at}`)
      }
      for (const cut of [new Uint8Array(), sealed[field].subarray(0, 20), sealed[field].subarray(1)]) {
        assert.isTrue(Either.isLeft(before.open(place, { ...sealed, [field]: cut })))
      }
    }
    const other = before.seal(place, value)
    assert.isTrue(Either.isLeft(before.open(place, { ...sealed, data_key: other.data_key })))
  })

  it("opens with any of the keys, and moves to the first one with its value sealed", () => {
    const both = Sealing.make([young, old])
    const after = Sealing.make([young])
    assert.deepStrictEqual(both.olderIds, [before.keyId])
    assert.strictEqual(sealed.key_id, before.keyId)
    assert.deepStrictEqual(Either.map(both.open(place, sealed), String), Either.right(value.toString()))
    const lost = after.open(place, sealed)
    assert.isTrue(Either.isLeft(lost) && lost.left.reason === "unknown_key")
    assert.match(Either.isLeft(lost) ? lost.left.message : "", /ORDINAUT_SECRET no longer holds/)
    const moved = { ...sealed, ...Either.getOrThrow(both.rewrap(place, sealed)) }
    assert.strictEqual(moved.key_id, after.keyId)
    assert.deepStrictEqual(Either.map(after.open(place, moved), String), Either.right(value.toString()))
    assert.isTrue(Either.isLeft(before.open(place, moved)))
  })
})
