import { Either } from "effect"
import type { ExtensionAuth } from "../domain/Extension.ts"
import { headerNameProblem, headerValueProblem } from "../domain/HeaderFields.ts"
import { StepFailed } from "../domain/StepFailed.ts"

const headerOf = ({ header, kind, secret }: ExtensionAuth): readonly [name: string, value: string] => {
  if (kind === "bearer") return ["authorization", `Bearer ${secret}`]
  // `user:password` (RFC 7617).
  if (kind === "basic") return ["authorization", `Basic ${Buffer.from(secret, "utf8").toString("base64")}`]
  return [(header ?? "").toLowerCase(), secret]
}

/** The header that authorizes a call, if any. Fails with `tool_unavailable` where the credentials cannot be sent; the message keeps them. */
export const credentialHeaders = (
  auth: ExtensionAuth | null
): Either.Either<ReadonlyMap<string, string>, StepFailed> => {
  if (auth === null) return Either.right(new Map())
  const [name, value] = headerOf(auth)
  return headerNameProblem(name) === undefined && headerValueProblem(value) === undefined
    ? Either.right(new Map([[name, value]]))
    : Either.left(StepFailed.of("tool_unavailable", "the extension's credentials do not fit a header"))
}
