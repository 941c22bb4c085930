import { randomBytes } from "node:crypto"
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Option, Redacted } from "effect"
import * as ApiKey from "../domain/ApiKey.ts"
import { Agents } from "./Agents.ts"
import * as Settings from "./Settings.ts"

/** `ORDINAUT_ADMIN_KEY`, when it is set. */
const given = Effect.gen(function* () {
  const text = yield* Settings.adminKey
  if (Option.isNone(text)) return undefined
  const key = ApiKey.parse(Redacted.value(text.value))
  return key === undefined
    ? yield* Effect.fail(
        Settings.invalid("ORDINAUT_ADMIN_KEY", "ORDINAUT_ADMIN_KEY takes an API key as `npm run key` makes it")
      )
    : key
})

/** Makes the first admin from `ORDINAUT_ADMIN_KEY` where there is none yet. Answers whether it did. */
export const fromSettings = Effect.gen(function* () {
  const agents = yield* Agents
  const key = yield* given
  return key === undefined ? false : yield* agents.ensureAdmin(key)
})

/**
 * As `fromSettings`, but a missing key is generated and kept in `admin.key` of the data folder, mode 0600. Answers a generated key
 * when it made the admin, or when a program that was killed at that moment did.
 */
export const generated = Effect.gen(function* () {
  const agents = yield* Agents
  const folder = yield* Settings.dataDir
  const path = join(folder, "admin.key")
  const draft = `${path}.new`
  const configured = yield* given
  const known = configured ?? (yield* Effect.promise(() => kept(path)))
  // On the disk before there is an admin: no kill leaves an admin whose key nobody has.
  const key = known ?? (yield* Effect.promise(() => drafted(folder, draft)))
  const made = yield* agents.ensureAdmin(key)
  const isAdmins = agents.authenticate(key.text).pipe(
    Effect.as(true),
    Effect.catchTag("Unauthorized", () => Effect.succeed(false))
  )
  if (made || (known === undefined && (yield* isAdmins))) {
    yield* Effect.promise(() => (known === undefined ? moved(draft, path) : keep(folder, path, key.text)))
    // Whoever set it has it: it need not stand in a log.
    return configured === undefined ? { key: key.text, path } : null
  }
  yield* Effect.promise(() => rm(draft, { force: true }))
  return null
})

const kept = async (path: string) => {
  const text = await readFile(path, "utf8").catch(() => "")
  return ApiKey.parse(text.trim())
}

/** `wx` never overwrites: of two first starts one makes the key and both read it. */
const drafted = async (folder: string, draft: string): Promise<ApiKey.ApiKey> => {
  await mkdir(folder, { recursive: true })
  const made = ApiKey.fromRandom(randomBytes(41))
  await writeFile(draft, `${made.text}\n`, { mode: 0o600, flag: "wx" }).catch((error: unknown) => {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error
  })
  const found = await kept(draft)
  if (found !== undefined) return found
  // A program was killed while it wrote.
  await writeFile(draft, `${made.text}\n`, { mode: 0o600 })
  return made
}

/** Another first start may have moved it already. */
const moved = (draft: string, path: string) => rename(draft, path).catch(() => undefined)

const keep = async (folder: string, path: string, text: string) => {
  await mkdir(folder, { recursive: true })
  await writeFile(path, `${text}\n`, { mode: 0o600 })
  await chmod(path, 0o600)
}
