import { Either } from "effect"
import { BlockList, isIP } from "node:net"

/** A private target that may be called: a host by its name, or a range of addresses. */
export type PrivateTarget =
  | { readonly host: string }
  | { readonly address: string; readonly prefix: number; readonly family: "ipv4" | "ipv6" }

/** Ports from the first to the last. */
export type PortRange = readonly [from: number, to: number]

/** Ports that may be called unless the operator lists others: those of the web, and those that any user may open. */
export const defaultPorts: ReadonlyArray<PortRange> = [
  [80, 80],
  [443, 443],
  [1024, 65_535]
]

/** What may be called from here. */
export interface Targets {
  /** Why this URL may not be called, as far as it can be told without asking for the host's addresses; else undefined. */
  readonly refusal: (url: URL) => string | undefined
  /** Whether an address that `host` resolves to may be called. `host` is a name in the form that `URL` gives it. */
  readonly admits: (host: string, address: string) => boolean
  /** Whether the operator named this host, so that there is nothing to hide about it. */
  readonly names: (host: string) => boolean
}

/** 168.63.129.16 answers machines of Azure with their secrets, and lies in a public range. */
const closedIPv4 = [
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"],
  ...["192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"],
  ...["224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"]
]

/** Of global unicast: protocol assignments (Teredo, benchmarking, ORCHID), documentation, 6to4, documentation. */
const closedIPv6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"]

/** Ranges whose last 32 bits are an IPv4 address, which alone says where a packet goes: mapped, and NAT64 (RFC 6052). */
const embedding = ["::ffff:0:0/96", "64:ff9b::/96"]

const listOf = (ranges: ReadonlyArray<string>): BlockList => {
  const list = new BlockList()
  for (const range of ranges) {
    const [address = "", prefix] = range.split("/")
    list.addSubnet(address, Number(prefix), isIP(address) === 4 ? "ipv4" : "ipv6")
  }
  return list
}

const closed4 = listOf(closedIPv4)
const closed6 = listOf(closedIPv6)
const unicast6 = listOf(["2000::/3"])
const embedding6 = listOf(embedding)

/** The IPv4 address in the last 32 bits of an IPv6 address. */
const innerOf = (address: string): string => {
  const [, high = "0", low = "0"] = /([0-9a-f]*):([0-9a-f]*)\]$/.exec(new URL(`http://[${address}]`).hostname) ?? []
  const [a, b] = [parseInt(high || "0", 16), parseInt(low || "0", 16)]
  return [a >> 8, a & 255, b >> 8, b & 255].join(".")
}

/**
 * Whether an address is plain public unicast: nothing private, shared, local, multicast, reserved, for documentation or
 * for benchmarks (IANA's special-purpose registries), no tunnel, no metadata service. Text that is no address is not.
 */
export const isPublic = (address: string): boolean => {
  if (isIP(address) === 4) return !closed4.check(address, "ipv4")
  if (isIP(address) !== 6 || address.includes("%")) return false
  if (embedding6.check(address, "ipv6")) return isPublic(innerOf(address))
  return unicast6.check(address, "ipv6") && !closed6.check(address, "ipv6")
}

/** A host as `URL` gives it, without the brackets of an IPv6 address and the dot that ends an absolute name. */
export const bareHost = (host: string): string => host.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "")

/** The rules for calls that leave. */
export const makeTargets = (allowed: ReadonlyArray<PrivateTarget>, ports: ReadonlyArray<PortRange>): Targets => {
  const hosts = new Set(allowed.flatMap((one) => ("host" in one ? [one.host] : [])))
  const ranges = new BlockList()
  for (const one of allowed) if ("address" in one) ranges.addSubnet(one.address, one.prefix, one.family)
  const isAllowed = (address: string): boolean => {
    const family = isIP(address)
    return family !== 0 && !address.includes("%") && ranges.check(address, family === 4 ? "ipv4" : "ipv6")
  }
  const admits = (host: string, address: string) => hosts.has(bareHost(host)) || isAllowed(address) || isPublic(address)
  return {
    names: (host) => hosts.has(bareHost(host)),
    admits,
    refusal: (url) => {
      if (url.protocol !== "http:" && url.protocol !== "https:") return "only http and https URLs can be called"
      if (url.username !== "" || url.password !== "") return "a URL that is called bears no user name and no password"
      const port = Number(url.port || (url.protocol === "https:" ? 443 : 80))
      if (!ports.some(([from, to]) => port >= from && port <= to)) return `port ${port} may not be called`
      const host = bareHost(url.hostname)
      // Loopback by definition (RFC 6761), whatever a resolver says.
      const local = /(^|\.)localhost$/.test(host) && !hosts.has(host) && !isAllowed("127.0.0.1") && !isAllowed("::1")
      if (local || (isIP(host) !== 0 && !admits(host, host))) return `${host} may not be called`
      return undefined
    }
  }
}

const privateTarget = (text: string): PrivateTarget | undefined => {
  const [address = "", prefix, ...rest] = text.split("/")
  const family = isIP(address)
  if (family !== 0 && !address.includes("%")) {
    const bits = family === 4 ? 32 : 128
    if (rest.length > 0 || (prefix !== undefined && !/^\d{1,3}$/.test(prefix)) || Number(prefix ?? 0) > bits)
      return undefined
    return { address, prefix: prefix === undefined ? bits : Number(prefix), family: family === 4 ? "ipv4" : "ipv6" }
  }
  // An `@`, a port or a path would be dropped in silence by the parser of URLs.
  const url = `http://${address}`
  if (prefix !== undefined || !/^[^\s/@:?#\\[\]]+$/.test(address) || !URL.canParse(url)) return undefined
  const host = bareHost(new URL(url).hostname)
  // An address in another spelling, such as 127.1, is surely not meant as a name.
  return isIP(host) === 0 ? { host } : undefined
}

const listed = <A>(text: string, read: (entry: string) => A | undefined): Either.Either<ReadonlyArray<A>, string> => {
  const found: Array<A> = []
  for (const entry of text.split(",").map((part) => part.trim())) {
    const one = entry === "" ? undefined : read(entry)
    if (one === undefined) return Either.left(entry)
    found.push(one)
  }
  return Either.right(found)
}

/** Hosts, addresses and ranges with commas between. Fails with the entry that is none of them. */
export const parsePrivateTargets = (text: string): Either.Either<ReadonlyArray<PrivateTarget>, string> =>
  listed(text, privateTarget)

/** Ports and ranges of ports with commas between, such as `443,9000-9099`. Fails with the entry that is neither. */
export const parsePorts = (text: string): Either.Either<ReadonlyArray<PortRange>, string> =>
  listed(text, (entry) => {
    const [, first, last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(entry) ?? []
    const [from, to] = [Number(first ?? NaN), Number(last ?? NaN)]
    return from >= 1 && from <= to && to <= 65_535 ? [from, to] : undefined
  })
