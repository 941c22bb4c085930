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

type Decoder = (first: Uint8Array) => Transform

/** zlib's form by RFC 9110 §8.4.1.2, but servers also send the raw one: the first byte tells. */
const inflate: Decoder = ([first = 0]) => ((first & 0x0f) === 8 ? createInflate() : createInflateRaw())

const decoders: ReadonlyMap<string, Decoder> = new Map([
  ["gzip", () => createGunzip()],
  ["x-gzip", () => createGunzip()],
  ["br", () => createBrotliDecompress()],
  ["deflate", inflate]
])

/** An empty body stays empty, whatever its encoding; decoders would call it cut off. */
async function* decodedBy(source: AsyncIterable<Uint8Array>, decoder: Decoder): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]()
  const first = await chunks.next()
  if (first.done) return
  const all = async function* () {
    yield first.value
    yield* { [Symbol.asyncIterator]: () => chunks }
  }
  yield* pipeline(Readable.from(all()), decoder(first.value), ignore)
}

const decoded = (body: Readable, decoder: Decoder): Readable => {
  const output = Readable.from(decodedBy(body, decoder), { objectMode: false })
  // The generator reads the body by itself: whoever gives up the output has to let go of the body.
  output.once("close", () => body.destroy())
  return output
}

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
    .filter((one) => one !== "" && one !== "identity")
  const steps = named.flatMap((one) => decoders.get(one) ?? [])
  if (steps.length > 2 || steps.length < named.length) {
    body.on("error", ignore).destroy()
    throw StepFailed.of("tool_output_invalid", "the answer's content encoding is not one of those that were asked for")
  }
  // What is compressed can be a little larger than what is in it, and empty blocks must not go on for ever.
  const received: Readable = pipeline(body, counted(maxAnswerBytes + 65_536), ignore)
  // The encoding that was applied last stands last.
  return pipeline(steps.reduceRight(decoded, received), counted(maxAnswerBytes), ignore)
}

/** All bytes of a body. */
export const collect = async (body: Readable): Promise<Uint8Array> => {
  const chunks: Array<Uint8Array> = []
  for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks)
}
