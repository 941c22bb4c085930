import { assert, it } from "@effect/vitest"

it("the host's zone is the one that this run is in", () => {
  const zone = process.env["TZ"]
  if (zone === undefined) return
  assert.strictEqual(Intl.DateTimeFormat().resolvedOptions().timeZone, zone)
  assert.notStrictEqual(new Date(2026, 0, 1).getTimezoneOffset(), 0)
})
