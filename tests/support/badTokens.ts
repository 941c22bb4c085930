import { createHmac } from "node:crypto"
import { generateKeyPair } from "jose"
import type { CryptoKey } from "jose"

/** What a good token is made of. */
export interface Good {
  readonly token: string
  readonly kid: string
  /** The key that signed it. */
  readonly key: CryptoKey
  /** `x` of the public key, in base64url. */
  readonly publicKey: string
  /** Epoch seconds. */
  readonly now: number
}

/** A token that no verifier may take, and why. */
export interface BadToken {
  readonly why: string
  readonly token: string
}

type Members = Readonly<Record<string, unknown>>

const encoded = (text: string | Uint8Array) => Buffer.from(text).toString("base64url")

/** A token of these texts, signed with the true key: only what the texts say is wrong with it. */
export const signed = async (key: CryptoKey, header: string, claims: string): Promise<string> => {
  const body = `${encoded(header)}.${encoded(claims)}`
  return `${body}.${encoded(new Uint8Array(await crypto.subtle.sign("Ed25519", key, Buffer.from(body))))}`
}

const without = (members: Members, name: string): Members =>
  Object.fromEntries(Object.entries(members).filter(([key]) => key !== name))

const text = (members: Members) => JSON.stringify(members)

/** Headers and claims that are wrong in one thing, under a true signature. */
const wrongInOneThing = (header: Members, claims: Members, now: number) => {
  const inHeader: ReadonlyArray<readonly [string, Members]> = [
    ["no alg", without(header, "alg")],
    ["no kid", without(header, "kid")],
    ["no typ", without(header, "typ")],
    ...[
      "none",
      "None",
      "NONE",
      "nOnE",
      "",
      "HS256",
      "HS384",
      "RS256",
      "ES256",
      "PS256",
      "Ed448",
      "ed25519",
      "eddsa"
    ].map((alg) => [`alg ${alg}`, { ...header, alg }] as const),
    ...[null, 1, true, [], ["EdDSA"], {}].map((alg) => [`alg ${JSON.stringify(alg)}`, { ...header, alg }] as const),
    ...["JWT", "jwt", "", "at-jwt", "id+jwt", "logout+jwt", "dpop+jwt", "text/at+jwt"].map(
      (typ) => [`typ ${typ}`, { ...header, typ }] as const
    ),
    ...[null, 1, ["at+jwt"], {}].map((typ) => [`typ ${JSON.stringify(typ)}`, { ...header, typ }] as const),
    ...["", "x", "../../etc/passwd", "' OR '1'='1", "A".repeat(43), "\u0000"].map(
      (kid) => [`kid ${kid}`, { ...header, kid }] as const
    ),
    ...[null, 0, [], {}].map((kid) => [`kid ${JSON.stringify(kid)}`, { ...header, kid }] as const),
    ["an embedded key", { ...header, jwk: { kty: "OKP", crv: "Ed25519", x: "A".repeat(43) } }],
    ["jku", { ...header, jku: "http://127.0.0.1:1/jwks.json" }],
    ["x5u", { ...header, x5u: "http://127.0.0.1:1/cert.pem" }],
    ["x5c", { ...header, x5c: ["MIIB"] }],
    ["x5t", { ...header, x5t: "AAAA" }],
    ["crit", { ...header, crit: ["exp"], exp: now + 600 }],
    ["an empty crit", { ...header, crit: [] }],
    ["b64", { ...header, crit: ["b64"], b64: false }],
    ["zip", { ...header, zip: "DEF" }],
    ["cty", { ...header, cty: "JWT" }],
    ["an unknown parameter", { ...header, more: 1 }]
  ]
  const huge = [Number.MAX_SAFE_INTEGER, 1e300, -1, 0, 1.5, "soon", String(now + 600), null, true, [], {}]
  const inClaims: ReadonlyArray<readonly [string, Members]> = [
    ...["iss", "aud", "sub", "exp", "iat", "jti", "scope"].map(
      (name) => [`no ${name}`, without(claims, name)] as const
    ),
    ...["iss", "aud", "sub", "jti", "scope"].flatMap((name) =>
      [null, 1, true, [], {}, ["ordinaut"]].map(
        (value) => [`${name} ${JSON.stringify(value)}`, { ...claims, [name]: value }] as const
      )
    ),
    ...huge.map((exp) => [`exp ${JSON.stringify(exp)}`, { ...claims, exp }] as const),
    ...huge.map((iat) => [`iat ${JSON.stringify(iat)}`, { ...claims, iat }] as const),
    ["another issuer", { ...claims, iss: "https://issuer.example" }],
    ["the issuer in capitals", { ...claims, iss: "ORDINAUT" }],
    ["another audience", { ...claims, aud: "another" }],
    ["several audiences", { ...claims, aud: ["ordinaut", "another"] }],
    ["another subject", { ...claims, sub: "019cadc6-9a80-7000-8000-000000000000" }],
    ["a subject that is no agent", { ...claims, sub: "admin" }],
    [
      "another's id",
      { ...claims, jti: String(claims["jti"]).replace(/^[^.]+/, "019cadc6-9a80-7000-8000-000000000000") }
    ],
    ["a key that there is not", { ...claims, jti: String(claims["jti"]).replace(/\.[^.]{12}\./, ".000000000000.") }],
    ["an id of another form", { ...claims, jti: "1" }],
    ["expired", { ...claims, exp: now - 31, iat: now - 600 }],
    ["a life longer than any", { ...claims, exp: now + 901, iat: now }],
    ["a life of years", { ...claims, exp: now + 100_000_000 }],
    ["issued in the future", { ...claims, iat: now + 31 }],
    ["too old", { ...claims, iat: now - 931 }],
    ["not valid yet", { ...claims, nbf: now + 60 }],
    ["valid at once, which ours do not say", { ...claims, nbf: now - 60 }],
    ["a claim that ours do not have", { ...claims, admin: true }],
    ["two kinds of scope", { ...claims, scp: ["admin"] }]
  ]
  return [
    ...inHeader.map(([why, wrong]) => ({ why, header: text(wrong), claims: text(claims) })),
    ...inClaims.map(([why, wrong]) => ({ why, header: text(header), claims: text(wrong) }))
  ]
}

/** JSON that two readers could read in two ways, or that is none. */
const wrongTexts = (header: Members, claims: Members) => {
  const [head, body] = [text(header), text(claims)]
  return [
    { why: "a claim twice", header: head, claims: body.replace('"scope"', '"scope":"admin","scope"') },
    { why: "sub twice", header: head, claims: body.replace('"sub"', '"sub":"other","sub"') },
    {
      why: "a claim twice, one written with an escape",
      header: head,
      claims: body.replace('"exp"', '"\\u0065xp":1,"exp"')
    },
    { why: "alg twice", header: head.replace('"alg"', '"alg":"none","alg"'), claims: body },
    { why: "claims that are a list", header: head, claims: `[${body}]` },
    { why: "claims that are a text", header: head, claims: '"claims"' },
    { why: "claims that are null", header: head, claims: "null" },
    { why: "claims that are no JSON", header: head, claims: body.slice(0, -1) },
    { why: "claims with a comma too much", header: head, claims: body.replace(/}$/, ",}") },
    { why: "claims after a byte order mark", header: head, claims: `\uFEFF${body}` },
    { why: "no claims", header: head, claims: "{}" },
    { why: "a header that is a list", header: `[${head}]`, claims: body },
    { why: "a header that is null", header: "null", claims: body },
    { why: "a header that is no JSON", header: "alg=EdDSA", claims: body },
    { why: "an endless exp", header: head, claims: body.replace(/"exp":\d+/, '"exp":1e999') },
    { why: "a __proto__", header: head, claims: body.replace(/}$/, ',"__proto__":{"scope":"admin"}}') },
    { why: "deep claims", header: head, claims: body.replace(/}$/, `,"a":${"[".repeat(200)}${"]".repeat(200)}}`) },
    { why: "huge claims", header: head, claims: body.replace(/}$/, `,"a":"${"x".repeat(9000)}"}`) }
  ]
}

const flipped = (token: string, at: number): string => {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
  const index = digits.indexOf(token.charAt(at))
  return index < 0
    ? `${token.slice(0, at)}A${token.slice(at + 1)}`
    : `${token.slice(0, at)}${digits.charAt(index ^ 1)}${token.slice(at + 1)}`
}

/** Texts made of a good token without its key: every one must be refused. */
const mangled = ({ publicKey, token }: Good): ReadonlyArray<BadToken> => {
  const [head = "", claims = "", signature = ""] = token.split(".")
  const header = (members: Members) => encoded(text(members))
  const hmac = (alg: string, hash: string, secret: string | Uint8Array) => {
    const body = `${header({ alg, typ: "at+jwt" })}.${claims}`
    return `${body}.${createHmac(hash, secret).update(body).digest("base64url")}`
  }
  const none = header({ alg: "none", typ: "at+jwt" })
  const positions = Array.from({ length: 40 }, (_, n) => Math.floor((n * (token.length - 1)) / 39))
  return [
    { why: "alg none, no signature", token: `${none}.${claims}.` },
    { why: "alg none, the old signature", token: `${none}.${claims}.${signature}` },
    { why: "alg none, two parts", token: `${none}.${claims}` },
    { why: "HS256 under the public key's text", token: hmac("HS256", "sha256", publicKey) },
    { why: "HS256 under the public key's bytes", token: hmac("HS256", "sha256", Buffer.from(publicKey, "base64url")) },
    { why: "HS384 under the public key's bytes", token: hmac("HS384", "sha384", Buffer.from(publicKey, "base64url")) },
    { why: "HS512 under nothing", token: hmac("HS512", "sha512", "") },
    { why: "no signature", token: `${head}.${claims}.` },
    { why: "two parts", token: `${head}.${claims}` },
    { why: "one part", token: head },
    { why: "four parts", token: `${token}.AAAA` },
    { why: "five parts, as an encrypted one has", token: `${head}.${claims}.${signature}.AAAA.AAAA` },
    { why: "only dots", token: ".." },
    { why: "a dot", token: "." },
    { why: "parts that change places", token: `${claims}.${head}.${signature}` },
    { why: "a signature of zeros", token: `${head}.${claims}.${"A".repeat(86)}` },
    { why: "a signature of the wrong length", token: `${head}.${claims}.${signature.slice(0, -4)}` },
    { why: "the signature twice", token: `${head}.${claims}.${signature}${signature}` },
    { why: "padding", token: `${token}==` },
    { why: "base64 where base64url is due", token: `${head}.${claims}.${signature.slice(0, -2)}+/` },
    { why: "a space inside", token: `${head}. ${claims}.${signature}` },
    { why: "a letter in front", token: `A${token}` },
    { why: "the words of an OAuth scheme", token: `token=${token}` },
    { why: "40,000 dots", token: ".".repeat(8000) },
    { why: "much", token: `${head}.${"A".repeat(8000)}.${signature}` },
    ...[1, 2, 3, 10, 80, 100].map((left) => ({ why: `cut by ${left}`, token: token.slice(0, -left) })),
    ...positions.map((at) => ({ why: `another character at ${at}`, token: flipped(token, at) })),
    { why: "other unused bits in its last character", token: flipped(token, token.length - 1) }
  ]
}

/** Over a hundred tokens that are wrong in one thing each. */
export const badTokens = async (good: Good): Promise<ReadonlyArray<BadToken>> => {
  const [head = "", body = ""] = good.token.split(".").map((part) => Buffer.from(part, "base64url").toString())
  const header = JSON.parse(head) as Members
  const claims = JSON.parse(body) as Members
  const forged = [...wrongInOneThing(header, claims, good.now), ...wrongTexts(header, claims)]
  const other = await generateKeyPair("EdDSA", { crv: "Ed25519" })
  return [
    ...(await Promise.all(
      forged.map(async (one) => ({ why: one.why, token: await signed(good.key, one.header, one.claims) }))
    )),
    { why: "signed by another key under our kid", token: await signed(other.privateKey, head, body) },
    ...mangled(good)
  ]
}
