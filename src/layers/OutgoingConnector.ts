import type { LookupAddress } from "node:dns"
import { isIPv6, type LookupFunction } from "node:net"
import { buildConnector } from "undici"
import { StepFailed } from "../domain/StepFailed.ts"
import type { Targets } from "./Targets.ts"

/** Asks for all addresses of a host, as `dns.lookup` with `all` does. */
export type Resolve = (
  host: string,
  done: (error: NodeJS.ErrnoException | null, addresses: ReadonlyArray<LookupAddress>) => void
) => void

/** For the host's addresses, the connection and its encryption together. */
const connectMillis = 10_000

/**
 * Neither that a name does not exist nor that its addresses are private is told: both would map a network that is not the
 * caller's. Names change, so another attempt may find an address that can be called.
 */
const unreachable = (host: string): StepFailed =>
  new StepFailed({
    code: "target_forbidden",
    message: `${host} has no address that may be called`,
    retryable: true
  })

/**
 * Opens connections to what may be called alone. Names are resolved here and nowhere else, and the addresses that were
 * judged are those that are connected to: a name that changes its mind in between gains nothing.
 */
export const guardedConnector = (targets: Targets, resolve: Resolve): buildConnector.connector => {
  const lookup: LookupFunction = (host, options, done) => {
    resolve(host, (error, addresses) => {
      const [first] = addresses
      const absent = error === null ? first === undefined : error.code === "ENOTFOUND"
      if (absent && !targets.names(host)) return done(unreachable(host), [])
      if (error !== null || first === undefined)
        return done(error ?? StepFailed.of("tool_connection", `${host} has no address`), [])
      if (!addresses.every(({ address }) => targets.admits(host, address))) return done(unreachable(host), [])
      if (options.all === true) done(null, [...addresses])
      else done(null, first.address, first.family)
    })
  }
  const connect = buildConnector({ timeout: connectMillis, lookup })
  return (options, done) => {
    const { hostname, port, protocol } = options
    // Literal addresses never come to a lookup.
    const host = isIPv6(hostname) ? `[${hostname}]` : hostname
    const refusal = targets.refusal(new URL(`${protocol}//${host}${port === "" ? "" : `:${port}`}`))
    if (refusal === undefined) connect(options, done)
    else queueMicrotask(() => done(StepFailed.of("target_forbidden", refusal), null))
  }
}
