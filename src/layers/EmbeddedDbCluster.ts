import { Effect, Schema } from "effect"
import { randomBytes } from "node:crypto"
import { chmod, chown, mkdtemp, open, readdir, readFile, rename, rm, stat } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { type Account, type Place, run } from "./EmbeddedDbAccount.ts"
import type { Binaries } from "./EmbeddedDbBinaries.ts"
import { diskFull, EmbeddedDbError, onFolder, systemCode, tellsDiskFull } from "./EmbeddedDbError.ts"
import { alive } from "./EmbeddedDbProcess.ts"

/** What PostgreSQL does not keep itself, in a file of its data folder that only its owner can read. */
const Card = Schema.parseJson(
  Schema.Struct({
    password: Schema.String,
    /** The port of the last start, taken again when it is free: programs that are attached find the server there. */
    port: Schema.Int,
    /** Pid of the program that stops the server. */
    starter: Schema.Int
  })
)
/** Password, port and starter of a cluster. */
export type Card = typeof Card.Type

/** A connection of the product's own superuser; the cluster has no other user. */
export const urlOf = (card: Card): string => `postgresql://ordinaut:${card.password}@127.0.0.1:${card.port}/postgres`

const cardFile = "ordinaut.json"

/** Fails with `FolderUnusable` for a cluster that another product made. */
export const readCard = (data: string): Effect.Effect<Card, EmbeddedDbError> =>
  onFolder(data, async () => Schema.decodeSync(Card)(await readFile(join(data, cardFile), "utf8")))

/** Written beside, flushed and renamed: after a power cut there is the old card or the new one. */
export const writeCard = ({ account, data }: Place, card: Card): Effect.Effect<void, EmbeddedDbError> =>
  onFolder(data, async () => {
    const draft = join(data, `${cardFile}.${process.pid}`)
    await writeSecret(draft, Schema.encodeSync(Card)(card), account)
    await rename(draft, join(data, cardFile))
  })

const writeSecret = async (path: string, text: string, account: Account) => {
  const file = await open(path, "w", 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
    if (account !== undefined) await file.chown(account.uid, account.gid)
  } finally {
    await file.close()
  }
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    (cause: unknown) => systemCode(cause) !== "ENOENT"
  )

/** Drafts of programs that were killed while they made one. */
const sweep = async (data: string) => {
  for (const name of await readdir(dirname(data))) {
    const pid = name.startsWith(`${basename(data)}.new-`) ? Number.parseInt(name.split(".new-")[1] ?? "", 10) : 0
    if (pid > 0 && !(await alive(pid))) await rm(join(dirname(data), name), { recursive: true, force: true })
  }
}

/**
 * Makes the cluster where there is none: beside its place, then renamed, so that a killed first start leaves no half of
 * one. Without `sync` nothing is flushed to disk.
 */
export const initialise = (here: Place, binaries: Binaries, sync: boolean): Effect.Effect<void, EmbeddedDbError> =>
  Effect.gen(function* () {
    const { account, data, home } = here
    if (yield* Effect.promise(() => exists(join(data, "PG_VERSION")))) return
    yield* onFolder(home, () => sweep(data))
    const draft = yield* Effect.acquireRelease(
      onFolder(home, () => mkdtemp(`${data}.new-${process.pid}-`)),
      (path) =>
        Effect.promise(() =>
          Promise.allSettled([path, `${path}.password`].map((each) => rm(each, { recursive: true, force: true })))
        )
    )
    const password = randomBytes(24).toString("base64url")
    yield* onFolder(home, async () => {
      if (account !== undefined) await chown(draft, account.uid, account.gid)
      await writeSecret(`${draft}.password`, password, account)
    })
    const access = ["--username", "ordinaut", "--pwfile", `${draft}.password`, "--auth", "scram-sha-256"]
    const text = ["--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
    const flags = ["--pgdata", draft, ...access, ...text, ...(sync ? [] : ["--no-sync"])]
    const { ok, output } = yield* run(binaries.initdb, flags, account)
    if (!ok) return yield* failure(home, output)
    yield* writeCard({ ...here, data: draft }, { password, port: 0, starter: process.pid })
    yield* onFolder(home, () =>
      // The folder is there, and not empty, when another program was quicker: then its cluster is the one.
      rename(draft, data).catch((cause: unknown) => {
        if (systemCode(cause) !== "ENOTEMPTY" && systemCode(cause) !== "EEXIST") throw cause
      })
    )
  }).pipe(Effect.scoped)

const failure = (home: string, output: string) =>
  tellsDiskFull(output)
    ? diskFull(home)
    : new EmbeddedDbError({
        reason: "InitFailed",
        message: `PostgreSQL cannot make its data folder in ${home}: ${/(?:error|FATAL|PANIC): +(.*)/.exec(output)?.[1] ?? output.trim().split("\n").at(-1)}.`
      })

/** A data folder works with the major version that made it only. Also repairs the mode that PostgreSQL insists on. */
export const checkVersion = ({ data }: Place, { major }: Binaries): Effect.Effect<void, EmbeddedDbError> =>
  Effect.gen(function* () {
    const version = yield* onFolder(data, () => readFile(join(data, "PG_VERSION"), "utf8"))
    if (Number(version.trim()) === major) return yield* onFolder(data, () => chmod(data, 0o700))
    return yield* new EmbeddedDbError({
      reason: "WrongVersion",
      message: `${data} holds data of PostgreSQL ${version.trim()}, and version ${major} is installed: move the data by pg_dump and psql, or set ORDINAUT_DATA_DIR to another folder.`
    })
  })
