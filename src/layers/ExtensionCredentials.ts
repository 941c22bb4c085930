import { randomBytes } from "node:crypto"
import { Either, Schema } from "effect"
import type { Credentials } from "../domain/Extension.ts"
import { signingBytes, signingText } from "../domain/Registration.ts"
import type { AuthInfo, ExtensionPut } from "../domain/Registration.ts"
import * as Sealing from "./Sealing.ts"

/** What of an extension is sealed. */
const Kept = Schema.parseJson(
  Schema.Struct({ auth: Schema.NullOr(Schema.String), signing_secret: Schema.NullOr(Schema.String) })
)
type Kept = typeof Kept.Type

const encode = Schema.encodeSync(Kept)
const decode = Schema.decodeUnknownEither(Kept)

/** How credentials are sent, and where they stand sealed. */
export interface Stored {
  readonly namespace: string
  readonly name: string
  readonly auth: typeof AuthInfo.Type | null
  readonly sealed: Sealing.Sealed | null
}

/** What a registration makes of the credentials; `made` is the text of a signing secret that nobody knows yet. */
export interface Merged {
  readonly auth: typeof AuthInfo.Type | null
  readonly sealed: Sealing.Sealed | null
  readonly made: string | undefined
}

const nothing: Kept = { auth: null, signing_secret: null }

/** Seals and opens the credentials of extensions. */
export const make = (sealing: Sealing.Sealing) => {
  const placeOf = ({ name, namespace }: Pick<Stored, "name" | "namespace">): Sealing.Place => ({
    table: "extension",
    namespace,
    name
  })

  const open = (stored: Stored): Either.Either<Kept, Sealing.Unopenable> =>
    stored.sealed === null
      ? Either.right(nothing)
      : Either.flatMap(sealing.open(placeOf(stored), stored.sealed), (bytes) =>
          Either.mapLeft(
            decode(Buffer.from(bytes).toString()),
            () => new Sealing.Unopenable({ subject: `extension ${stored.name}`, reason: "tampered" })
          )
        )

  return {
    placeOf,
    /** What calls are signed and authorized with. */
    credentials: (stored: Stored): Either.Either<Credentials, Sealing.Unopenable> =>
      Either.map(open(stored), ({ auth, signing_secret }) => ({
        auth: stored.auth === null || auth === null ? null : { ...stored.auth, secret: auth },
        signingSecret: signing_secret === null ? null : (signingBytes(signing_secret) ?? null)
      })),
    /** What is given replaces what is stored, null removes it, and what is left out stays, if it fits the kind. */
    merge: (stored: Stored, given: ExtensionPut): Either.Either<Merged, Sealing.Unopenable> =>
      Either.gen(function* () {
        const signs = given.kind === "http"
        const keepsAuth = given.base_url !== undefined && given.auth === undefined && stored.auth !== null
        const keepsSigning = signs && given.signing_secret === undefined
        const old = keepsAuth || keepsSigning ? yield* open(stored) : nothing
        const made = keepsSigning && old.signing_secret === null ? signingText(randomBytes(32)) : undefined
        const kept: Kept = {
          auth: keepsAuth ? old.auth : (given.auth?.secret ?? null),
          signing_secret: signs ? (given.signing_secret ?? old.signing_secret ?? made ?? null) : null
        }
        return {
          auth: keepsAuth ? stored.auth : infoOf(given),
          sealed:
            kept.auth === null && kept.signing_secret === null
              ? null
              : sealing.seal(placeOf(stored), Buffer.from(encode(kept))),
          made
        }
      })
  }
}

const infoOf = ({ auth }: ExtensionPut): Merged["auth"] =>
  auth === undefined || auth === null
    ? null
    : { kind: auth.kind, ...(auth.header === undefined ? {} : { header: auth.header }) }
