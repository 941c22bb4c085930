import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { apiServer, newTask, refusal, request, taskBody } from "../support/ApiServer.ts"

const streamOf = (bytes: Uint8Array) =>
  new ReadableStream<Uint8Array>({
    start: (controller) => {
      for (let at = 0; at < bytes.length; at += 65_536) controller.enqueue(bytes.subarray(at, at + 65_536))
      controller.close()
    }
  })

const utf8 = (text: string) => new TextEncoder().encode(text)
const event = (payload: string) => `{"topic":"traps","payload":${payload}}`
const bigger = `"${"x".repeat(2 * 1_048_576)}"`

layer(apiServer())("a body as bytes", (it) => {
  const trap = (body: string | Uint8Array | ReadableStream, headers: Readonly<Record<string, string>> = {}) =>
    request("POST", "/events", { body, headers })

  it.effect("that is no JSON is 400", () =>
    Effect.gen(function* () {
      const texts = [
        "{",
        "nope",
        '{"topic":"a",}',
        "{'topic':1}",
        '{"topic":"a"}{}',
        "NaN",
        event("01"),
        event('"\n"'),
        " "
      ]
      for (const text of texts) refusal(yield* trap(text), 400, "invalid_json")
      const cut = utf8(event('"é"')).filter((byte) => byte !== 0xa9)
      refusal(yield* trap(cut), 400, "invalid_json")
      refusal(yield* trap(Uint8Array.of(0xff, 0xfe, 0x7b, 0, 0x7d, 0)), 400, "invalid_json")
    })
  )

  it.effect("takes JSON of any shape, a byte order mark and every type that ends in json", () =>
    Effect.gen(function* () {
      const bodies = [
        event("null"),
        ` ${event("1e-400")} `,
        `\uFEFF${event('"\u{1F600}"')}`,
        event('{"__proto__":{"a":1}}')
      ]
      for (const body of bodies) assert.strictEqual((yield* trap(body)).status, 202, body)
      for (const type of [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/merge-patch+json"
      ]) {
        assert.strictEqual((yield* trap(event("1"), { "content-type": type })).status, 202, type)
      }
      assert.strictEqual((yield* trap(streamOf(utf8(event("1"))))).status, 202)
    })
  )

  it.effect("of another media type is 415, whatever else its name holds", () =>
    Effect.gen(function* () {
      const types = [
        "text/plain",
        "text/plain; json",
        "text/json",
        "application/x-www-form-urlencoded; x=json",
        "multipart/form-data; boundary=json",
        "application/jsonx"
      ]
      for (const type of types) {
        for (const body of [event("1"), "topic=a&payload=1", streamOf(utf8(event("1")))]) {
          refusal(yield* trap(body, { "content-type": type }), 415, "unsupported_media_type")
        }
      }
      refusal(yield* trap(event("1"), { "content-encoding": "gzip" }), 415, "unsupported_media_type")
    })
  )

  it.effect("that no store takes is 422 with its place", () =>
    Effect.gen(function* () {
      const deep = (depth: number) => "[".repeat(depth) + "]".repeat(depth)
      const traps = [
        [event('"a\\u0000b"'), "/payload"],
        [event('{"a":["\\ud800"]}'), "/payload/a/0"],
        [event('{"\\udc00":1}'), "/payload/\udc00"],
        [event("1e400"), "/payload"],
        [event("[-1e999]"), "/payload/0"],
        [event(deep(100_000)), `/payload${"/0".repeat(63)}`],
        [event('{"a":1,"b":{"c":1,"\\u0063":2}}'), "/payload/b/c"],
        ['{"topic":"a","topic":"b","payload":1}', "/topic"],
        [event(`{${Array.from({ length: 10_001 }, (_, i) => `"${i}":0`).join()}}`), ""]
      ] as const
      for (const [body, path] of traps) {
        const { errors } = refusal(yield* trap(body), 422)
        assert.deepStrictEqual(
          errors?.map((error) => error.path.replace("\ufffd", "\udc00")),
          [path],
          body.slice(0, 60)
        )
      }
      assert.strictEqual((yield* trap(event(deep(62)))).status, 202)
      assert.strictEqual((yield* trap(event('{"a":{"b":1},"b":[{"b":1},{"b":2}],"c":"\\"b\\":{"}'))).status, 202)
    })
  )

  it.effect("over a mebibyte is 413, announced or not", () =>
    Effect.gen(function* () {
      refusal(yield* trap(event(bigger)), 413, "content_too_large")
      refusal(yield* trap(streamOf(utf8(event(bigger)))), 413, "content_too_large")
      const fits = 1_048_576 - event('""').length
      assert.strictEqual((yield* trap(event(`"${"x".repeat(fits)}"`))).status, 202)
      refusal(yield* trap(event(`"${"x".repeat(fits + 1)}"`)), 413, "content_too_large")
    })
  )

  it.effect("of nothing but mistakes is answered shortly, by less than was sent", () =>
    Effect.gen(function* () {
      const many = (item: string) => `[${Array.from({ length: 200_000 }, () => item).join()}]`
      const bodies = [
        ["/agents", `{"name":"a","scopes":${many('""')}}`],
        [
          "/tasks",
          JSON.stringify(
            taskBody({ payload: { pipeline: [{ uses: "mail.send", retry: { max_attempts: 1 } }] } })
          ).replace('"max_attempts":1', `"max_attempts":1,"on":${many('""')}`)
        ],
        ["/tasks", JSON.stringify(taskBody({ title: 5 })).replace(/"pipeline":\[.*\]/, `"pipeline":${many("0")}`)],
        ["/events", `{"topic":${JSON.stringify("x".repeat(1_000_000))},"payload":1}`]
      ] as const
      for (const [path, body] of bodies) {
        const started = performance.now()
        const answer = yield* request("POST", path, { body })
        const { errors = [] } = refusal(answer, 422)
        assert.isAtMost(errors.length, 100)
        assert.isBelow(answer.text.length, 100_000, path)
        assert.isBelow(performance.now() - started, 5000, `${path} ${body.slice(0, 80)}`)
      }
    })
  )

  it.effect("left out is an empty one", () =>
    Effect.gen(function* () {
      const { id } = yield* newTask()
      assert.strictEqual((yield* request("POST", `/tasks/${id}/pause`)).status, 200)
      assert.strictEqual(
        (yield* request("POST", `/tasks/${id}/pause`, { body: "", headers: { "content-type": "text/plain" } })).status,
        200
      )
      const { errors } = refusal(yield* request("POST", "/events"), 422)
      assert.deepStrictEqual(
        errors?.map(({ path }) => path),
        ["/topic", "/payload"]
      )
      for (const body of ["null", "[]", '"x"', "5"]) {
        assert.deepStrictEqual(refusal(yield* request("POST", `/tasks/${id}/pause`, { body }), 422).errors, [
          { path: "", message: "must be an object" }
        ])
      }
    })
  )
})
