import { Context } from "effect"
import type { Caller } from "../domain/Agent.ts"

/** What is known of a request beyond what it says. */
export interface Known {
  /** Address of the client. */
  readonly address: string
  /** Whom its credentials name, once they were looked at and found good. */
  caller: Caller | null
}

/** The request that is being answered. */
export class Visit extends Context.Reference<Visit>()("ordinaut/Visit", {
  defaultValue: (): Known => ({ address: "unknown", caller: null })
}) {}
