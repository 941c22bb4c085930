import { StepFailed } from "../domain/StepFailed.ts"

const codeOf = (cause: unknown): string => {
  const code: unknown = typeof cause === "object" && cause !== null ? Reflect.get(cause, "code") : undefined
  return typeof code === "string" ? code : ""
}

/**
 * What became of a call, by the error of the client or of a stream: never by its text. A connection that was refused, and
 * one that came to nothing, look alike.
 */
export const failureOf = (cause: unknown, origin: string): StepFailed => {
  if (cause instanceof StepFailed) return cause
  const code = codeOf(cause)
  if (code === "UND_ERR_HEADERS_OVERFLOW")
    return StepFailed.of("tool_response_too_large", "the headers of the answer are too large")
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT")
    return StepFailed.of("timeout", `${origin} fell silent`)
  // Errors of zlib and of Brotli, as node:zlib names them.
  if (/^(Z_|ERR__ERROR_|ERR_BROTLI_)/.test(code))
    return StepFailed.of("tool_output_invalid", "the answer cannot be decompressed")
  if (code.startsWith("HPE_")) return StepFailed.of("tool_connection", `${origin} does not speak HTTP`)
  // Names of OpenSSL's verification and of node:tls; whoever runs the server needs to know which.
  if (/CERT|^ERR_TLS|^ERR_SSL|^UNABLE_TO_|^EPROTO$/.test(code))
    return StepFailed.of("tool_connection", `no secure connection to ${origin}: ${code}`)
  return StepFailed.of("tool_connection", `the connection to ${origin} failed`)
}
