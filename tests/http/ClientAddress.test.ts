import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Option } from "effect"
import * as ClientAddress from "../../src/http/ClientAddress.ts"
import { corsOrigins, trustedProxies } from "../../src/layers/EdgeSettings.ts"

/** The two fields of a request that are looked at. */
const requestFrom = (peer: string, forwarded?: string) =>
  ({
    remoteAddress: Option.some(peer),
    headers: forwarded === undefined ? {} : { "x-forwarded-for": forwarded }
  }) as unknown as HttpServerRequest.HttpServerRequest

const clientOf = (proxies: string, peer: string, forwarded?: string) =>
  ClientAddress.make.pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(proxies === "" ? [] : [["TRUSTED_PROXIES", proxies]]))),
    Effect.map((addressOf) => addressOf(requestFrom(peer, forwarded)))
  )

describe("the address of a client", () => {
  it.effect("is the peer's, or what trusted proxies say, the nearest first", () =>
    Effect.gen(function* () {
      const proxies = "10.0.0.0/8, 192.0.2.1, fd00::/8"
      const cases = [
        ["", "10.0.0.1", "203.0.113.1", "10.0.0.1"],
        [proxies, "203.0.113.1", "198.51.100.1", "203.0.113.1"],
        [proxies, "10.0.0.1", "198.51.100.1", "198.51.100.1"],
        [proxies, "::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"],
        [proxies, "10.0.0.1", "6.6.6.6, 198.51.100.1, 192.0.2.1, 10.2.3.4", "198.51.100.1"],
        [proxies, "10.0.0.1", "10.0.0.9", "10.0.0.9"],
        [proxies, "10.0.0.1", "unknown", "10.0.0.1"],
        [proxies, "10.0.0.1", "198.51.100.1, garbage", "10.0.0.1"],
        [proxies, "10.0.0.1", "", "10.0.0.1"],
        [proxies, "10.0.0.1", undefined, "10.0.0.1"],
        [proxies, "fd00::1", "[2001:db8::1]:4711", "2001:db8::1"],
        [proxies, "10.0.0.1", "198.51.100.1:4711", "198.51.100.1"],
        ["0.0.0.0/0,::/0", "10.0.0.1", "1.1.1.1, 2.2.2.2", "1.1.1.1"]
      ] as const
      for (const [trusted, peer, forwarded, expected] of cases) {
        assert.strictEqual(yield* clientOf(trusted, peer, forwarded), expected, `${peer} ${forwarded}`)
      }
    })
  )

  it("counts as one client: an IPv4 address, a /64 of IPv6", () => {
    const same = [
      ["203.0.113.1", "203.0.113.1"],
      ["2001:db8::1", "2001:db8:0:0::/64"],
      ["2001:0db8:0000:0000:ffff:ffff:ffff:ffff", "2001:db8:0:0::/64"],
      ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
      ["::1", "0:0:0:0::/64"],
      ["fe80::1%eth0", "fe80:0:0:0::/64"],
      ["64:ff9b::203.0.113.1", "64:ff9b:0:0::/64"]
    ] as const
    for (const [address, network] of same) assert.strictEqual(ClientAddress.network(address), network)
  })

  it.effect("a range that is none stops the program by the variable's name, and so does a wildcard origin", () =>
    Effect.gen(function* () {
      for (const wrong of ["10.0.0.0/33", "10.0.0", "::/129", "proxy.example", "10.0.0.0/-1", "*", "10.0.0.0/8/8"]) {
        const provider = ConfigProvider.fromMap(new Map([["TRUSTED_PROXIES", wrong]]))
        const error = yield* Effect.flip(Effect.withConfigProvider(trustedProxies, provider))
        assert.include(String(error), "TRUSTED_PROXIES takes", wrong)
      }
      for (const wrong of [
        "*",
        "https://*",
        "https://a.example/",
        "a.example",
        "null",
        "https://A.example",
        "file:///a"
      ]) {
        const provider = ConfigProvider.fromMap(new Map([["CORS_ORIGINS", wrong]]))
        const error = yield* Effect.flip(Effect.withConfigProvider(corsOrigins, provider))
        assert.include(String(error), "CORS_ORIGINS takes", wrong)
      }
    })
  )
})
