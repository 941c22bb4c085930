import { isIP } from "node:net"
import { Config, Either } from "effect"
import { integer, refused, setting, settings as all } from "./Settings.ts"
import type { Setting } from "./Settings.ts"

/** Every setting of the product: those of `Settings.ts`, and the API's own, which are declared here. */
export const settings: ReadonlyArray<Setting> = all

const most = 1_000_000_000

/** Requests a minute of an agent that has no rate of its own. */
export const rateAgent = integer("RATE_AGENT", 6000, 1, most, "requests a minute of an agent without a rate of its own")

/** Requests a minute of an address, for IPv6 of its /64. */
export const rateAddress = integer("RATE_ADDRESS", 12_000, 1, most, "requests a minute of a client address")

/** Failed authentications a minute of an address, and of a key id. */
export const rateAuthFailures = integer(
  "RATE_AUTH_FAILURES",
  30,
  1,
  most,
  "failed authentications a minute of an address and of a key id"
)

/** Event streams that an agent may have open at once at one process of the API. */
export const streamsAgent = integer(
  "STREAMS_AGENT",
  20,
  1,
  most,
  "event streams that an agent may have open at once, at each process"
)

/** Event streams that one process of the API keeps open at once. */
export const streamsProcess = integer(
  "STREAMS_PROCESS",
  500,
  1,
  most,
  "event streams that a process keeps open at once"
)

/** Connections that one process of the API keeps open at once. */
export const maxConnections = integer(
  "MAX_CONNECTIONS",
  5000,
  10,
  1_000_000,
  "connections that a process of the API keeps open at once; one more is closed"
)

/** A list with commas between; empty parts are left out. */
const list = (text: string) =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")

/** A range of addresses in CIDR form. */
export interface Range {
  readonly address: string
  readonly prefix: number
  readonly family: "ipv4" | "ipv6"
}

const rangeOf = (text: string): Range | undefined => {
  const [, address = "", length] = /^([0-9A-Fa-f:.]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const version = isIP(address)
  const bits = version === 4 ? 32 : 128
  const prefix = length === undefined ? bits : Number(length)
  return version === 0 || prefix > bits ? undefined : { address, prefix, family: version === 4 ? "ipv4" : "ipv6" }
}

/** Proxies whose `X-Forwarded-For` is believed; none: the header is never read. */
export const trustedProxies = setting(
  {
    name: "TRUSTED_PROXIES",
    default: "none",
    meaning: "addresses or CIDR ranges, with commas between, of the proxies whose X-Forwarded-For is believed"
  },
  Config.string("TRUSTED_PROXIES").pipe(
    Config.mapOrFail((text) => {
      const ranges = list(text).map(rangeOf)
      const read = ranges.filter((range) => range !== undefined)
      return read.length === ranges.length
        ? Either.right<ReadonlyArray<Range>>(read)
        : Either.left(refused("TRUSTED_PROXIES takes addresses or CIDR ranges such as 10.0.0.0/8, with commas between"))
    }),
    Config.withDefault<ReadonlyArray<Range>>([])
  )
)

const isOrigin = (text: string) => /^https?:\/\/[^*]+$/.test(text) && URL.parse(text)?.origin === text

/** Origins of pages that may call the API from a browser; none: no answer bears a CORS header. */
export const corsOrigins = setting(
  {
    name: "CORS_ORIGINS",
    default: "none (off)",
    meaning: "origins, with commas between, whose pages may call the API from a browser"
  },
  Config.string("CORS_ORIGINS").pipe(
    Config.mapOrFail((text) => {
      const origins = list(text)
      return origins.every(isOrigin)
        ? Either.right<ReadonlyArray<string>>(origins)
        : Either.left(
            refused("CORS_ORIGINS takes exact origins such as https://app.example.com, with commas between; never *")
          )
    }),
    Config.withDefault<ReadonlyArray<string>>([])
  )
)

const url = (name: string, fallback: string, meaning: string, accepts: (url: URL) => boolean, takes: string) =>
  setting(
    { name, default: fallback, meaning },
    Config.option(
      Config.string(name).pipe(
        Config.mapOrFail((text) => {
          const read = URL.parse(text.trim())
          return read !== null && accepts(read) ? Either.right(read) : Either.left(refused(`${name} takes ${takes}`))
        })
      )
    )
  )

const isLoopback = ({ hostname }: URL) => ["127.0.0.1", "localhost", "[::1]"].includes(hostname)

/** Where the keys of an outside issuer of tokens are; none: only the product's own tokens are taken. */
export const jwksUrl = url(
  "JWKS_URL",
  "none (own tokens alone)",
  "keys (JWKS) of an outside issuer whose tokens are taken too; asks for the issuer and the audience",
  (given) =>
    given.username === "" && (given.protocol === "https:" || (given.protocol === "http:" && isLoopback(given))),
  "an https URL without credentials (http on the loopback alone)"
)

/** The `iss` of the outside issuer's tokens. */
export const jwtIssuer = setting(
  { name: "JWT_ISSUER", default: "none", meaning: "`iss` of the outside issuer's tokens, exactly" },
  Config.option(Config.nonEmptyString("JWT_ISSUER"))
)

/** The `aud` that the outside issuer's tokens must bear. */
export const jwtAudience = setting(
  { name: "JWT_AUDIENCE", default: "none", meaning: "`aud` that the outside issuer's tokens must bear" },
  Config.option(Config.nonEmptyString("JWT_AUDIENCE"))
)
