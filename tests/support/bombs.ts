import { deflateSync, gzipSync } from "node:zlib"
import { taskBody } from "./ApiServer.ts"

/** A request that is meant to cost more than it should. */
export interface Bomb {
  readonly name: string
  readonly method: string
  readonly path: string
  readonly body: string | Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

const utf8 = (text: string) => new TextEncoder().encode(text)
const mebi = 1_048_576
const event = (payload: string) => `{"topic":"bombs","payload":${payload}}`
const nested = (open: string, close: string, depth: number, within = "") =>
  open.repeat(depth) + within + close.repeat(depth)

const published = (name: string, payload: string): Bomb => ({
  name: `payload: ${name}`,
  method: "POST",
  path: "/events",
  body: event(payload)
})

const payloads: ReadonlyArray<Bomb> = [
  ...[63, 64, 65, 1000, 100_000, 500_000].flatMap((depth) => [
    published(`${depth} arrays`, nested("[", "]", depth)),
    published(`${depth} objects`, nested('{"a":', "}", depth, "1"))
  ]),
  ...[9999, 10_001, 80_000].map((keys) =>
    published(`${keys} keys`, `{${Array.from({ length: keys }, (_, i) => `"${i}":0`).join()}}`)
  ),
  published("one key 80,000 times", `{${Array.from({ length: 80_000 }, () => '"a":0').join()}}`),
  published("keys of numbers out of order", `{${Array.from({ length: 9000 }, (_, i) => `"${9000 - i}":0`).join()}}`),
  published("keys that collide by escapes", `{${Array.from({ length: 9000 }, (_, i) => `"\\u0061${i}":0`).join()}}`),
  published("empty arrays", `[${Array.from({ length: 300_000 }, () => "[]").join()}]`),
  published("a string of escapes", `"${"\\u0041".repeat(150_000)}"`),
  published("a string of surrogates", `"${"\\ud83d\\ude00".repeat(80_000)}"`),
  published("lone surrogates", `[${Array.from({ length: 50_000 }, () => '"\\ud800"').join()}]`),
  published("U+0000", `"${"\\u0000".repeat(100_000)}"`),
  published("digits", "9".repeat(1_000_000)),
  published("digits after the point", `0.${"1".repeat(1_000_000)}`),
  published("an exponent", "1e999999999"),
  published("an exponent of a thousand digits", `1e${"9".repeat(1000)}`),
  published("white space", `${" ".repeat(1_000_000)}1`),
  published("white space that ends nowhere", " ".repeat(1_000_000)),
  published("a string without an end", `"${"a".repeat(1_000_000)}`),
  published("prototypes", '{"__proto__":{"toString":1},"constructor":{"prototype":{"polluted":1}}}'),
  published("backslashes", `"${"\\\\".repeat(400_000)}"`)
]

const whole = (name: string, body: string | Uint8Array, headers?: Readonly<Record<string, string>>): Bomb => ({
  name: `body: ${name}`,
  method: "POST",
  path: "/events",
  body,
  ...(headers === undefined ? {} : { headers })
})

const bodies: ReadonlyArray<Bomb> = [
  whole("2 MiB", event(`"${"a".repeat(2 * mebi)}"`)),
  whole("30 MiB", event(`"${"a".repeat(30 * mebi)}"`)),
  whole("gzip of 100 MiB", gzipSync(Buffer.alloc(100 * mebi, 0x20)), { "content-encoding": "gzip" }),
  whole("deflate of 100 MiB", deflateSync(Buffer.alloc(100 * mebi, 0x20)), { "content-encoding": "deflate" }),
  whole("gzip that says it is plain", gzipSync(Buffer.alloc(mebi, 0x20))),
  whole("UTF-16", Buffer.from(event("1"), "utf16le")),
  whole(
    "broken UTF-8",
    Uint8Array.from({ length: 100_000 }, () => 0xc3)
  ),
  whole("overlong UTF-8", Buffer.concat([utf8('{"topic":"'), Uint8Array.of(0xc0, 0xaf), utf8('","payload":1}')])),
  whole("byte order marks", "\uFEFF".repeat(100_000)),
  whole("opening brackets", "[".repeat(mebi - 1)),
  whole("opening braces", "{".repeat(mebi - 1)),
  whole("quotes", '"'.repeat(mebi - 1)),
  whole("commas", ",".repeat(mebi - 1)),
  whole("an array on top", `[${Array.from({ length: 100_000 }, () => event("1")).join()}]`),
  whole("unknown fields", `{${Array.from({ length: 9000 }, (_, i) => `"f${i}":1`).join()}}`),
  whole("a topic of 900 kB", JSON.stringify({ topic: "a.".repeat(450_000), payload: 1 })),
  whole("a topic that is almost one", JSON.stringify({ topic: `${"a-".repeat(90)}!`, payload: 1 })),
  whole("a form of a million parts", "a=1&".repeat(250_000), { "content-type": "application/x-www-form-urlencoded" }),
  whole("a multipart without an end", "--x\r\n".repeat(200_000), { "content-type": "multipart/form-data; boundary=x" })
]

const task = (name: string, more: Readonly<Record<string, unknown>>): Bomb => ({
  name: `task: ${name}`,
  method: "POST",
  path: "/tasks",
  body: JSON.stringify(taskBody(more))
})

const withValue = (name: string, value: unknown) =>
  task(name, { payload: { pipeline: [{ id: "only", uses: "core.transform", with: { value } }] } })

const withCondition = (name: string, condition: string) =>
  task(name, { payload: { pipeline: [{ id: "only", uses: "core.transform", if: condition, with: { value: 1 } }] } })

const steps = (count: number, more: (i: number) => object) =>
  Array.from({ length: count }, (_, i) => ({ id: `s${i}`, uses: "core.transform", with: { value: i }, ...more(i) }))

const tasks: ReadonlyArray<Bomb> = [
  withValue("templates that open", "${".repeat(200_000)),
  withValue("templates in templates", nested("${a[", "]}", 5000, "0")),
  withValue("fifty thousand templates", "${params.a}".repeat(50_000)),
  withValue("a template of pipes", `\${${"a | ".repeat(2000)}a}`),
  withValue("a template of filters", `\${a${"[?a]".repeat(2000)}}`),
  withValue("a template of flattenings", `\${a${"[]".repeat(4000)}}`),
  withValue("a template of multi-selects", `\${${"[a,a".repeat(300)}${"]".repeat(300)}}`),
  withValue("a template of functions", `\${${"to_array(".repeat(500)}a${")".repeat(500)}}`),
  withValue("a template of brackets", `\${${"(".repeat(50_000)}`),
  withValue("a template of literals", `\${\`${"[".repeat(50_000)}\`}`),
  withValue("a time of many parts", `\${now${"+1h".repeat(20_000)}}`),
  withValue("a time of many digits", `\${now+${"9".repeat(5000)}h}`),
  withValue("sixty levels", JSON.parse(nested('{"a":', "}", 55, '"${params.a}"'))),
  withCondition("a condition of ors", Array.from({ length: 900 }, () => "a").join("||")),
  withCondition("a condition of nots", `${"!".repeat(990)}a`),
  withCondition("a condition of parentheses", `${"(".repeat(490)}a${")".repeat(490)}`),
  withCondition("a condition of comparisons", Array.from({ length: 200 }, () => "a == a").join(" && ")),
  withCondition("a condition of sorts", "sort_by(a,&sort_by(b,&sort_by(c,&d)))"),
  withCondition("a condition of 900 kB", "a".repeat(900_000)),
  task("ten thousand steps", { payload: { pipeline: steps(10_000, () => ({})) } }),
  task("steps that all need each other", {
    payload: { pipeline: steps(100, () => ({ needs: Array.from({ length: 100 }, (_, j) => `s${j}`) })) }
  }),
  task("a circle of steps", { payload: { pipeline: steps(100, (i) => ({ needs: [`s${(i + 1) % 100}`] })) } }),
  task("steps of one id", { payload: { pipeline: steps(1000, () => ({ id: "same" })) } }),
  task("a title of 900 kB", { title: "a".repeat(900_000) }),
  task("nine thousand labels", { labels: Object.fromEntries(Array.from({ length: 9000 }, (_, i) => [`l${i}`, "x"])) }),
  task("a pattern of an event task", { schedule_kind: "event", schedule_expr: "**.".repeat(1000) }),
  task("a filter of an event task", { schedule_kind: "event", schedule_expr: `a if ${"(".repeat(3000)}` }),
  task("a condition task of many topics", {
    schedule_kind: "condition",
    schedule_expr: Array.from({ length: 200 }, (_, i) => `events.t${i}`).join(" && ")
  })
]

const preview = (name: string, body: Readonly<Record<string, unknown>>): Bomb => ({
  name: `schedule: ${name}`,
  method: "POST",
  path: "/schedules/preview",
  body: JSON.stringify({ timezone: "Europe/Berlin", count: 1000, ...body })
})
const rrule = (name: string, schedule_expr: string, more: object = {}) =>
  preview(name, { schedule_kind: "rrule", schedule_expr, ...more })
const cron = (name: string, schedule_expr: string) => preview(name, { schedule_kind: "cron", schedule_expr })
const many = (count: number, of: (i: number) => number | string) =>
  Array.from({ length: count }, (_, i) => of(i)).join()

const schedules: ReadonlyArray<Bomb> = [
  rrule("a day that never comes", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"),
  rrule("a second that never comes", "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"),
  rrule("a minute that never comes", "FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=31;BYHOUR=3"),
  rrule("a position that never comes", "FREQ=DAILY;BYHOUR=1,2;BYSETPOS=366"),
  rrule("every second of all years", "FREQ=SECONDLY;COUNT=2147483647", { dtstart: "0001-01-01T00:00:00" }),
  rrule("every second, far on", "FREQ=SECONDLY;INTERVAL=7", {
    dtstart: "1970-01-01T00:00:00",
    after: "9990-01-01T00:00:00Z"
  }),
  rrule("an interval of many digits", `FREQ=DAILY;INTERVAL=${"9".repeat(300)}`),
  rrule("an interval below one", "FREQ=DAILY;INTERVAL=-1"),
  rrule("a month that is none", "FREQ=DAILY;BYMONTH=13"),
  rrule(
    "all of everything",
    `FREQ=YEARLY;BYMONTH=${many(12, (i) => i + 1)};BYMONTHDAY=${many(31, (i) => i + 1)};BYHOUR=${many(24, (i) => i)};BYMINUTE=${many(60, (i) => i)};BYSECOND=${many(60, (i) => i)}`
  ),
  rrule("29 February, a Friday, every 7 years", "FREQ=YEARLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29;BYDAY=FR"),
  rrule("the 366th day, a Monday", "FREQ=YEARLY;BYYEARDAY=366;BYDAY=MO;INTERVAL=4"),
  rrule("three thousand dates", `RDATE:${many(200, () => "20270101T000000")}`),
  rrule("all dates taken out", "DTSTART:20270101T000000\nRRULE:FREQ=SECONDLY;COUNT=100000\nEXRULE:FREQ=SECONDLY"),
  rrule("a week that is none", "FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO;BYMONTH=6"),
  cron("a day that never comes", "0 0 31 2 *"),
  cron("a leap day", "0 0 29 2 *"),
  cron(
    "lists of lists",
    `${many(60, (i) => i)} ${many(24, (i) => i)} ${many(31, (i) => i + 1)} ${many(12, (i) => i + 1)} *`
  ),
  cron("ranges without an end", `${"0-59,".repeat(600)}0 * * * *`),
  cron("a step of many digits", `*/${"9".repeat(500)} * * * *`),
  preview("a zone that is none", { schedule_kind: "cron", schedule_expr: "* * * * *", timezone: "../../etc/passwd" }),
  preview("a zone of 900 kB", { schedule_kind: "cron", schedule_expr: "* * * * *", timezone: "A/".repeat(450_000) })
]

const extension = (name: string, schema: unknown): Bomb => ({
  name: `schema: ${name}`,
  method: "PUT",
  path: "/extensions/bomb",
  body: JSON.stringify({ kind: "simulated", tools: [{ name: "do", input_schema: schema }] })
})
const deepSchema = (depth: number): unknown =>
  JSON.parse(nested('{"properties":{"a":', "}}", depth, '{"type":"string"}'))

const schemas: ReadonlyArray<Bomb> = [
  extension("a pattern that backtracks", { type: "string", pattern: "^(a+)+$" }),
  extension("a pattern of repetitions", { type: "string", pattern: "((a{1,100}){1,100}){1,100}" }),
  extension("a pattern that looks back", { type: "string", pattern: "(?<=a)b\\1" }),
  extension("a pattern of 50 kB", { type: "string", pattern: "(a|b)?".repeat(8000) }),
  extension("itself", { $ref: "#" }),
  extension("a circle", { $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } }, $ref: "#/$defs/a" }),
  extension("another host's", { $ref: "https://evil.example/schema.json" }),
  extension("a file", { $ref: "file:///etc/passwd" }),
  extension("20 levels", deepSchema(14)),
  extension("30 levels", deepSchema(25)),
  extension("a thousand forms", { anyOf: Array.from({ length: 1000 }, (_, i) => ({ const: i })) }),
  extension("forms of forms", {
    allOf: Array.from({ length: 30 }, () => ({ anyOf: Array.from({ length: 30 }, () => ({ oneOf: [{}, {}] })) }))
  }),
  extension("no end of values", { enum: Array.from({ length: 9000 }, (_, i) => i) }),
  extension("unique items", { type: "array", uniqueItems: true, items: {} }),
  extension("an id of ours", { $id: "https://json-schema.org/draft/2020-12/schema", type: "string" })
]

/** More than a hundred requests that cost a parser, an evaluator or a memory more than they should. */
export const bombs: ReadonlyArray<Bomb> = [...payloads, ...bodies, ...tasks, ...schedules, ...schemas]
