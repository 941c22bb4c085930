import { Effect } from "effect"
import { execFile } from "node:child_process"
import { lstat, mkdir, mkdtemp, chmod, readlink, realpath, stat, symlink } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { type EmbeddedDbError, onFolder, systemCode } from "./EmbeddedDbError.ts"

/** The system account PostgreSQL runs as; `undefined` means our own. PostgreSQL refuses to run as root. */
export type Account = { readonly uid: number; readonly gid: number } | undefined

/** Where the database lives: `data` is PostgreSQL's own folder, `home` the folder around it that every program shares. */
export interface Place {
  readonly home: string
  readonly data: string
  readonly account: Account
}

/** Debian's and most other systems' account without rights. */
const nobody = { uid: 65534, gid: 65534 }

/** Survives a reboot, unlike the temporary folder, and every account can reach it. */
const reachableHome = "/var/lib/ordinaut"

/** Whether `account` may pass every folder above `path` and enter or execute `path` itself, by the mode bits. */
export const reachable = async (path: string, account: Account): Promise<boolean> => {
  if (account === undefined) return true
  const { gid, mode, uid } = await stat(path)
  const execute = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001
  return (mode & execute) !== 0 && (path === dirname(path) || reachable(dirname(path), account))
}

/** The owner of the nearest folder that exists: a database in a user's checkout stays the user's, also under sudo. */
const ownerOf = async (path: string): Promise<Account> => {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined && path !== dirname(path)) return ownerOf(dirname(path))
  return found === undefined || found.uid === 0 ? nobody : { uid: found.uid, gid: found.gid }
}

/** A umask of 077 would shut the other account out of a folder that holds nothing secret by itself. */
const makeFolder = async (path: string) => {
  if ((await mkdir(path, { recursive: true })) !== undefined) await chmod(path, 0o711)
}

/**
 * Decides account and folders for the database below `dataDir`, and makes the folders. As root, below a folder that the
 * account cannot enter (such as `/root`), the database goes to `/var/lib/ordinaut`, and `dataDir`/postgres links to it.
 */
export const place = (dataDir: string): Effect.Effect<Place, EmbeddedDbError> =>
  onFolder(resolve(dataDir), async () => {
    const wanted = resolve(dataDir)
    const account = process.getuid?.() === 0 ? await ownerOf(join(wanted, "postgres")) : undefined
    await makeFolder(wanted)
    const home = await realpath(wanted)
    const entry = join(home, "postgres")
    const linked = await lstat(entry).then(
      (found) => found.isSymbolicLink(),
      () => false
    )
    if (!linked && (await reachable(home, account))) return { home, data: entry, account }
    if (!linked) {
      await makeFolder(reachableHome)
      const elsewhere = await mkdtemp(join(reachableHome, "data-"))
      await chmod(elsewhere, 0o711)
      // Another program that starts at this moment may have made the link first: then its folder is the one.
      await symlink(join(elsewhere, "postgres"), entry).catch((cause: unknown) => {
        if (systemCode(cause) !== "EEXIST") throw cause
      })
    }
    const data = resolve(home, await readlink(entry))
    return { home: dirname(data), data, account }
  })

/** Only what the binaries need: secrets of our own environment do not reach another account, `PG…` variables not the server. */
export const environment: NodeJS.ProcessEnv = {
  LC_ALL: "C",
  TZ: "UTC",
  ...(process.platform === "win32" ? { SystemRoot: process.env["SystemRoot"], TEMP: process.env["TEMP"] } : {}),
  PATH: process.env["PATH"] ?? ""
}

/** Runs a program to its end as `account`: its output, and `ok` when it ended with 0. Never fails; interruption ends it. */
export const run = (command: string, args: ReadonlyArray<string>, account: Account) =>
  Effect.async<{ readonly ok: boolean; readonly output: string }>((resume, signal) => {
    execFile(command, args, { ...account, cwd: "/", env: environment, signal }, (error, stdout, stderr) =>
      resume(Effect.succeed({ ok: error === null, output: `${stdout}${stderr}` || (error?.message ?? "") }))
    )
  })
