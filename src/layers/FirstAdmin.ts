import { randomBytes } from "node:crypto"
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises"
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

/** As `fromSettings`, but a missing key is generated and kept in `admin.key` of the data folder, mode 0600. Answers the key when it made the admin. */
export const generated = Effect.gen(function* () {
  const agents = yield* Agents
  const folder = yield* Settings.dataDir
  const path = join(folder, "admin.key")
  const key = (yield* given) ?? (yield* Effect.promise(() => kept(path))) ?? ApiKey.fromRandom(randomBytes(41))
  const made = yield* agents.ensureAdmin(key)
  if (!made) return null
  yield* Effect.promise(() => keep(folder, path, key.text))
  return { key: key.text, path }
})

const kept = async (path: string) => {
  const text = await readFile(path, "utf8").catch(() => "")
  return ApiKey.parse(text.trim())
}

const keep = async (folder: string, path: string, text: string) => {
  await mkdir(folder, { recursive: true })
  await writeFile(path, `${text}\n`, { mode: 0o600 })
  await chmod(path, 0o600)
}
