import { StreamableHTTPError } from "@modelcontextprotocol/sdk/client/streamableHttp.js"
import { ErrorCode as RpcCode, McpError } from "@modelcontextprotocol/sdk/types.js"
import { StepFailed } from "../domain/StepFailed.ts"
import { statusFailure } from "./HttpAnswers.ts"
import { failureOf } from "./OutgoingFailure.ts"

/** What a server said, short, and such that it can be stored. */
export const words = (text: string, most = 1000): string =>
  text
    .slice(0, most)
    .replaceAll("\u0000", "\ufffd")
    .replaceAll(/\p{Surrogate}/gu, "\ufffd")

const ofRpc = ({ code, message }: McpError): StepFailed => {
  if (code === RpcCode.InvalidParams) return StepFailed.of("tool_input_invalid", words(message))
  if (code === RpcCode.MethodNotFound) return StepFailed.of("tool_unavailable", words(message))
  if (code === RpcCode.RequestTimeout) return StepFailed.of("timeout", words(message))
  return StepFailed.of("tool_connection", words(message))
}

/** The status of an answer that the SDK's transport made an error of. */
export const statusOf = (cause: unknown): number | undefined =>
  cause instanceof StreamableHTTPError ? cause.code : undefined

/** Whether a schema of the SDK refused a message; its errors are known by the list of what is wrong. */
const isMisshapen = (cause: unknown): boolean =>
  cause instanceof SyntaxError || (cause instanceof Error && Array.isArray(Reflect.get(cause, "issues")))

/** What became of a request to a server, by the SDK's error. */
export const mcpFailure = (cause: unknown, origin: string, now: number): StepFailed => {
  const status = statusOf(cause)
  if (status !== undefined && status >= 300) return statusFailure(status, new Map(), now)
  if (cause instanceof StreamableHTTPError || isMisshapen(cause))
    return StepFailed.of("tool_output_invalid", "the answer is not one of the Model Context Protocol")
  return cause instanceof McpError ? ofRpc(cause) : failureOf(cause, origin)
}
