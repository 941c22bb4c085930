import { Effect, Schema } from "effect"

/** Why the embedded PostgreSQL could not be had; `message` is one sentence that says what to do. */
export class EmbeddedDbError extends Schema.TaggedError<EmbeddedDbError>()("EmbeddedDbError", {
  reason: Schema.Literal("PackageAbsent", "FolderUnusable", "WrongVersion", "DiskFull", "InitFailed", "StartFailed"),
  message: Schema.String
}) {}

/** The code of a failed system call, such as `EACCES`; an empty text for any other failure. */
export const systemCode = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : ""

/** PostgreSQL tells of a full disk as text only; the language is fixed by the environment it gets. */
export const tellsDiskFull = (output: string): boolean =>
  /No space left on device|Disk quota exceeded|Check free disk space/.test(output)

/** A full disk, in one sentence. */
export const diskFull = (folder: string): EmbeddedDbError =>
  new EmbeddedDbError({
    reason: "DiskFull",
    message: `The disk below ${folder} is full: free some 100 MB, or set ORDINAUT_DATA_DIR to a folder on another disk.`
  })

/** File work below `folder`; a refusal of the file system becomes a sentence that names the folder. */
export const onFolder = <A>(folder: string, work: () => Promise<A>): Effect.Effect<A, EmbeddedDbError> =>
  Effect.tryPromise({
    try: work,
    catch: (cause) => {
      const code = systemCode(cause)
      return code === "ENOSPC" || code === "EDQUOT"
        ? diskFull(folder)
        : new EmbeddedDbError({
            reason: "FolderUnusable",
            message: `The data folder ${folder} cannot be used (${code || String(cause)}): make it writable, or set ORDINAUT_DATA_DIR to another folder.`
          })
    }
  })
