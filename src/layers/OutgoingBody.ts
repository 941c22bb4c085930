import { pipeline, Readable, Transform } from "node:stream"
import { createBrotliDecompress, createGunzip, createInflate, createInflateRaw } from "node:zlib"
import { StepFailed } from "../domain/StepFailed.ts"

/** Bytes of an answer that are read, before and after decompression. */
export const maxAnswerBytes = 1_048_576

/** The failure of an answer that is larger. */
export const tooLarge = () =>
  StepFailed.of("tool_response_too_large", `the answer has more than ${maxAnswerBytes} bytes`)

const counted = (limit: number) => {
  let size = 0
  return new Transform({
    transform: (chunk: Uint8Array, _, done) => {
      size += chunk.length
      if (size > limit) done(tooLarge())
      else done(null, chunk)
    }
  })
}

const ignore = () => undefined

/**
 * `deflate` is zlib's form by RFC 9110 §8.4.1.2, but servers also send the raw one: the first byte tells. Its answers
 * that are empty stay so.
 */
async function* inflated(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]()
  const first = await chunks.next()
  if (first.done) return
  const all = async function* () {
    yield first.value
    yield* { [Symbol.asyncIterator]: () => chunks }
  }
  const isZlib = ((first.value[0] ?? 0) & 0x0f) === 8
  yield* pipeline(Readable.from(all()), isZlib ? createInflate() : createInflateRaw(), ignore)
}

const decoders: ReadonlyMap<string, (body: Readable) => Readable> = new Map([
  ["gzip", (body: Readable): Readable => pipeline(body, createGunzip(), ignore)],
  ["x-gzip", (body: Readable): Readable => pipeline(body, createGunzip(), ignore)],
  ["br", (body: Readable): Readable => pipeline(body, createBrotliDecompress(), ignore)],
  [
    "deflate",
    (body: Readable): Readable => {
      // The generator reads the body by itself: whoever gives up the output has to let go of the body.
      const output = Readable.from(inflated(body), { objectMode: false })
      output.once("close", () => body.destroy())
      return output
    }
  ],
  ["identity", (body: Readable): Readable => body]
])

/** Encodings that `readable` undoes, for `Accept-Encoding`. */
export const acceptedEncodings = "gzip, deflate, br"

/**
 * The body of an answer, decompressed, and never more of it than `maxAnswerBytes`, by which it fails with
 * `tool_response_too_large`; an encoding that nobody asked for is `tool_output_invalid`. Destroying it ends the connection.
 */
export const readable = (body: Readable, encoding: string): Readable => {
  const named = encoding
    .split(",")
    .map((one) => one.trim().toLowerCase())
    .filter((one) => one !== "")
  const steps = named.map((one) => decoders.get(one))
  if (steps.length > 2 || steps.includes(undefined)) {
    body.on("error", ignore).destroy()
    throw StepFailed.of("tool_output_invalid", "the answer's content encoding is not one of those that were asked for")
  }
  // What is compressed can be a little larger than what is in it, and empty blocks must not go on for ever.
  let decoded: Readable = pipeline(body, counted(maxAnswerBytes + 65_536), ignore)
  // The last encoding that was applied stands last.
  for (const step of steps.reverse()) decoded = step?.(decoded) ?? decoded
  return pipeline(decoded, counted(maxAnswerBytes), ignore)
}

/** All bytes of a body. */
export const collect = async (body: Readable): Promise<Uint8Array> => {
  const chunks: Array<Uint8Array> = []
  for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks)
}
