import { BlockList, isIP } from "node:net"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { Effect, Option } from "effect"
import * as EdgeSettings from "../layers/EdgeSettings.ts"

/** An address without port and brackets, an IPv4 address that is written as IPv6 as itself; undefined for what is no address. */
export const plain = (text: string): string | undefined => {
  const bare = /^\[([^\]]*)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text
  if (isIP(bare) === 0) return undefined
  const mapped = /^::ffff:([\d.]+)$/i.exec(bare)?.[1]
  return mapped !== undefined && isIP(mapped) === 4 ? mapped : bare.toLowerCase()
}

/** What is counted as one client: an IPv4 address, or the /64 of an IPv6 address, which one customer has to himself. */
export const network = (address: string): string => {
  if (isIP(address) !== 6) return address
  const [text = ""] = address.split("%")
  const [head = "", tail] = text.split("::")
  const groups = (part: string) => (part === "" ? [] : part.split(":"))
  const before = groups(head)
  const after = groups(tail ?? "")
  // An IPv4 address at the end takes the place of two groups.
  const length = before.length + after.length + (text.includes(".") ? 1 : 0)
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - length)
  const all = [...before, ...Array.from({ length: zeros }, () => "0"), ...after]
  return `${all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":")}::/64`
}

const listOf = (ranges: ReadonlyArray<EdgeSettings.Range>) => {
  const list = new BlockList()
  for (const { address, family, prefix } of ranges) list.addSubnet(address, prefix, family)
  return list
}

/**
 * The address of the client that sent a request. `X-Forwarded-For` is read only where the request came from a trusted proxy, and
 * from its end on: the first address that is no trusted proxy is the client; what stands before it anybody could have written.
 */
export const make = Effect.map(EdgeSettings.trustedProxies, (ranges) => {
  const trusted = listOf(ranges)
  const isTrusted = (address: string) =>
    ranges.length > 0 && trusted.check(address, isIP(address) === 6 ? "ipv6" : "ipv4")
  return (request: HttpServerRequest.HttpServerRequest): string => {
    let client = plain(Option.getOrElse(request.remoteAddress, () => "")) ?? "unknown"
    const forwarded = (request.headers["x-forwarded-for"] ?? "").split(",").map((part) => part.trim())
    while (client !== "unknown" && isTrusted(client)) {
      const next = plain(forwarded.pop() ?? "")
      if (next === undefined) break
      client = next
    }
    return client
  }
})
