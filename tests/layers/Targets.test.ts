import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Either, Exit } from "effect"
import * as fc from "fast-check"
import * as Settings from "../../src/layers/Settings.ts"
import { defaultPorts, isPublic, makeTargets, parsePorts, parsePrivateTargets } from "../../src/layers/Targets.ts"

const none = makeTargets([], defaultPorts)
const allowing = (text: string) => makeTargets(Either.getOrThrow(parsePrivateTargets(text)), defaultPorts)
const refuses = (targets: typeof none, url: string) => targets.refusal(new URL(url)) !== undefined

/** First and last address of every range that nobody may call, and its neighbours that anybody may. */
const edges: ReadonlyArray<readonly [closed: ReadonlyArray<string>, free: ReadonlyArray<string>]> = [
  [["0.0.0.0", "0.255.255.255"], ["1.0.0.0"]],
  [
    ["10.0.0.0", "10.255.255.255"],
    ["9.255.255.255", "11.0.0.0"]
  ],
  [
    ["100.64.0.0", "100.100.100.200", "100.127.255.255"],
    ["100.63.255.255", "100.128.0.0"]
  ],
  [
    ["127.0.0.0", "127.255.255.255"],
    ["126.255.255.255", "128.0.0.0"]
  ],
  [
    ["169.254.0.0", "169.254.169.254", "169.254.255.255"],
    ["169.253.255.255", "169.255.0.0"]
  ],
  [
    ["172.16.0.0", "172.31.255.255"],
    ["172.15.255.255", "172.32.0.0"]
  ],
  [
    ["192.0.0.0", "192.0.0.192", "192.0.0.255", "192.0.2.0", "192.0.2.255"],
    ["191.255.255.255", "192.0.1.0", "192.0.3.0"]
  ],
  [
    ["192.88.99.0", "192.88.99.255"],
    ["192.88.98.255", "192.88.100.0"]
  ],
  [
    ["192.168.0.0", "192.168.255.255"],
    ["192.167.255.255", "192.169.0.0"]
  ],
  [
    ["198.18.0.0", "198.19.255.255"],
    ["198.17.255.255", "198.20.0.0"]
  ],
  [
    ["198.51.100.0", "198.51.100.255"],
    ["198.51.99.255", "198.51.101.0"]
  ],
  [
    ["203.0.113.0", "203.0.113.255"],
    ["203.0.112.255", "203.0.114.0"]
  ],
  [["224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255"], ["223.255.255.255"]],
  [["168.63.129.16"], ["168.63.129.15", "168.63.129.17"]],
  [
    ["::", "::1", "::7f00:1", "::8.8.8.8", "100::1", "1fff::1"],
    ["2400::", "2a00:1450::1"]
  ],
  [["64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "64:ff9b::"], ["64:ff9b::808:808"]],
  [["::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:0:0", "::ffff:0:808:808"], ["::ffff:8.8.8.8"]],
  [
    ["2001::", "2001:0:4136:e378::1", "2001:2::1", "2001:20::1", "2001:1ff:ffff::1"],
    ["2001:200::", "2001:4860::1"]
  ],
  [
    ["2001:db8::", "2001:db8:ffff::1"],
    ["2001:db7::1", "2001:db9::1"]
  ],
  [["2002::", "2002:7f00:1::1", "2002:ffff::1"], ["2003::1"]],
  [["3fff::1", "3fff:fff::1", "4000::", "5f00::1"], ["3fff:1000::1"]],
  [
    ["fc00::", "fd00:ec2::254", "fd20:ce::254", "fdff::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "fe80::1%eth0"],
    []
  ],
  [["", "localhost", "8.8.8", "1.2.3.4.5", "0x8.8.8.8", "8.8.8.8%eth0", "2a00::1%1", "[2a00::1]"], []]
]

describe("targets", () => {
  it("are public to the edge of every range", () => {
    for (const [closed, free] of edges) {
      for (const address of closed) assert.isFalse(isPublic(address), address)
      for (const address of free) assert.isTrue(isPublic(address), address)
    }
  })

  it("judge an address that is mapped, or reached over NAT64, by the one inside", () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        assert.strictEqual(isPublic(`::ffff:${address}`), isPublic(address))
        assert.strictEqual(isPublic(`64:ff9b::${address}`), isPublic(address))
      })
    )
  })

  it("have a port of the web or one that any user may open", () => {
    for (const port of [1, 22, 25, 79, 81, 442, 445, 1023]) assert.isTrue(refuses(none, `http://example.com:${port}`))
    for (const port of [80, 443, 1024, 8080, 65535]) assert.isFalse(refuses(none, `http://example.com:${port}`))
    assert.isTrue(refuses(none, "http://example.com:0"))
    const narrow = makeTargets([], Either.getOrThrow(parsePorts("25, 9000-9001")))
    for (const port of [25, 9000, 9001]) assert.isFalse(refuses(narrow, `http://example.com:${port}`))
    for (const url of ["http://example.com", "https://example.com", "http://example.com:9002"])
      assert.isTrue(refuses(narrow, url))
  })

  it("are private where the operator names them, by host or by range", () => {
    const some = allowing("Intranet.Example, 10.1.0.0/16,192.168.7.7, fd00:1::/32")
    assert.isTrue(some.admits("intranet.example", "10.9.9.9"))
    assert.isTrue(some.admits("intranet.example.", "127.0.0.1"))
    assert.isFalse(some.admits("other.intranet.example", "10.9.9.9"))
    for (const url of ["http://10.1.2.3", "http://[::ffff:10.1.2.3]", "http://192.168.7.7", "http://[fd00:1::9]"])
      assert.isFalse(refuses(some, url), url)
    for (const url of ["http://10.2.0.0", "http://192.168.7.8", "http://[fd00:2::9]", "http://localhost"])
      assert.isTrue(refuses(some, url), url)
    assert.isFalse(refuses(allowing("localhost"), "http://localhost:8080"))
    assert.isFalse(refuses(allowing("127.0.0.0/8"), "http://localhost:8080"))
    // Even so they are called by HTTP and on allowed ports alone.
    assert.isTrue(refuses(some, "http://10.1.2.3:22"))
    assert.isTrue(refuses(some, "ftp://10.1.2.3"))
  })

  it("are read strictly, and an error names the variable and the entry", () => {
    const wrong = [
      "10.0.0.0/33",
      "10.0.0.0/8/8",
      "10.0.0/8",
      "127.1",
      "http://x",
      "user@host",
      "a,,b",
      "fe80::1%1",
      "h:80"
    ]
    for (const text of [...wrong, "", " ", "::/129", "10.0.0.0/", "a b", "[::1]"])
      assert.isTrue(Either.isLeft(parsePrivateTargets(text)), text)
    for (const text of ["0", "65536", "80-", "90-80", "-1", "http", "80,,81", ""])
      assert.isTrue(Either.isLeft(parsePorts(text)), text)
  })

  it.effect("the settings name the variable and the entry that is wrong", () =>
    Effect.gen(function* () {
      const set = (name: string, value: string) =>
        Effect.withConfigProvider(ConfigProvider.fromMap(new Map([[name, value]])))
      const privates = yield* Effect.exit(
        Settings.allowedPrivateTargets.pipe(set("ORDINAUT_ALLOW_PRIVATE_TARGETS", "10.0.0.0/8,10.0.0.0/99"))
      )
      assert.match(String(privates), /ORDINAUT_ALLOW_PRIVATE_TARGETS takes .*10\.0\.0\.0\/99/)
      const ports = yield* Effect.exit(Settings.allowedPorts.pipe(set("ORDINAUT_ALLOWED_PORTS", "80,http")))
      assert.match(String(ports), /ORDINAUT_ALLOWED_PORTS takes .*http/)
      assert.isTrue(Exit.isFailure(ports))
      const neither = Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))
      assert.deepStrictEqual(yield* Settings.allowedPorts.pipe(neither), defaultPorts)
      assert.deepStrictEqual(yield* Settings.allowedPrivateTargets.pipe(neither), [])
    })
  )
})
