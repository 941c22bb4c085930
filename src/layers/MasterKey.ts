import { hkdfSync, randomBytes } from "node:crypto"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { ConfigError, Context, Effect, Layer, Option } from "effect"
import * as Settings from "./Settings.ts"

/** Where all keys of the product come from: `ORDINAUT_SECRET`, or in the all-in-one program a file made at the first start. */
export class MasterKey extends Context.Tag("ordinaut/MasterKey")<
  MasterKey,
  {
    /** Keys of 32 bytes for one purpose (HKDF-SHA-256, RFC 5869): the first is for new things, all are for reading. */
    readonly derive: (purpose: string) => readonly [Uint8Array, ...ReadonlyArray<Uint8Array>]
  }
>() {
  /** Fails with the variable's name where it is missing. */
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function* () {
      const given = yield* Settings.secrets
      return Option.isSome(given)
        ? fromSecrets(given.value)
        : yield* Effect.fail(ConfigError.MissingData(["ORDINAUT_SECRET"], "ORDINAUT_SECRET is missing"))
    })
  )

  /** As `layer`, but a missing secret is generated once and kept in `secret.key` of the data folder, mode 0600. */
  static readonly layerGenerated = Layer.effect(
    this,
    Effect.gen(function* () {
      const given = yield* Settings.secrets
      if (Option.isSome(given)) return fromSecrets(given.value)
      const folder = yield* Settings.dataDir
      return fromSecrets([yield* Effect.promise(() => keptOrMade(folder))])
    })
  )

  /** As `layerGenerated`, for a program that only reads: where there is no secret, none is made. */
  static readonly layerKept = Layer.effect(
    this,
    Effect.gen(function* () {
      const given = yield* Settings.secrets
      if (Option.isSome(given)) return fromSecrets(given.value)
      const folder = yield* Settings.dataDir
      const kept = yield* Effect.tryPromise({
        try: () => readKept(folder),
        catch: () => ConfigError.MissingData(["ORDINAUT_SECRET"], "ORDINAUT_SECRET is missing")
      })
      return fromSecrets([kept])
    })
  )
}

const fromSecrets = (secrets: ReadonlyArray<Uint8Array>) => {
  const derive = (purpose: string, secret: Uint8Array) =>
    new Uint8Array(hkdfSync("sha256", secret, "ordinaut", purpose, 32))
  return MasterKey.of({
    derive: (purpose) => {
      const [first = new Uint8Array(), ...others] = secrets
      return [derive(purpose, first), ...others.map((secret) => derive(purpose, secret))]
    }
  })
}

const keptFile = "secret.key"

const readKept = async (folder: string): Promise<Uint8Array> =>
  Buffer.from((await readFile(join(folder, keptFile), "utf8")).trim(), "base64")

const keptOrMade = async (folder: string): Promise<Uint8Array> => {
  const path = join(folder, keptFile)
  await mkdir(folder, { recursive: true })
  // `wx` never overwrites: of two first starts one makes the secret and both read it.
  await writeFile(path, `${randomBytes(32).toString("base64")}\n`, { mode: 0o600, flag: "wx" }).catch(
    (error: unknown) => {
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error
    }
  )
  return readKept(folder)
}
