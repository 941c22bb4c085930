import { readFileSync } from "node:fs"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer, request } from "../support/ApiServer.ts"

const manual = readFileSync(new URL("../../docs/extensions.md", import.meta.url), "utf8")

/** Every request that the manual shows, with the status and the answer that it promises. */
const examples = [
  ...manual.matchAll(/^```http\n(\S+) (\S+)\n([^]*?)^```\n\n`(\d{3})`\n(?:\n```json\n([^]*?)^```\n)?/gm)
].map(([, method = "", path = "", body = "", status = "", answer]) => ({
  method,
  path,
  body: body.trim(),
  status: Number(status),
  answer: answer === undefined ? undefined : (JSON.parse(answer) as unknown)
}))

/** A promise as it holds: a text that ends in `…` stands for all that begin so. */
const kept = (promised: unknown, found: unknown, place: string): void => {
  if (typeof promised === "string" && promised.endsWith("…")) {
    assert.isTrue(typeof found === "string" && found.startsWith(promised.slice(0, -1)), `${place}: ${String(found)}`)
  } else if (typeof promised === "object" && promised !== null && !Array.isArray(promised)) {
    assert.isTrue(typeof found === "object" && found !== null, place)
    for (const [key, value] of Object.entries(promised)) kept(value, Object(found)[key], `${place}/${key}`)
  } else if (Array.isArray(promised)) {
    assert.isTrue(Array.isArray(found) && found.length === promised.length, `${place}: ${JSON.stringify(found)}`)
    for (const [at, value] of promised.entries()) kept(value, Object(found)[at], `${place}/${at}`)
  } else assert.deepStrictEqual(found, promised, place)
}

layer(apiServer())("the manual of extensions", (it) => {
  it.effect("shows requests that are answered as it says", () =>
    Effect.gen(function* () {
      assert.strictEqual(examples.length, manual.split("```http").length - 1)
      assert.isAtLeast(examples.length, 5)
      for (const { answer, body, method, path, status } of examples) {
        const found = yield* request(method, path, body === "" ? {} : { body })
        assert.strictEqual(found.status, status, `${method} ${path}: ${found.text}`)
        if (answer !== undefined) kept(answer, found.body, `${method} ${path}`)
      }
    })
  )
})
