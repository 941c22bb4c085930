import { isArray, isObject, type JsonArray, type JsonObject, type JsonValue } from "./Json.ts"
import { JmesPathFault, type Meter } from "./JmesPathMeter.ts"
import { compareText, contains, equal, keysOf, lengthOf, print, textSteps } from "./JmesPathValues.ts"

/** Where a function is called: its name, the meter, and the expression behind `&` where it takes one. */
export interface Site {
  readonly name: string
  readonly meter: Meter
  readonly by: (element: JsonValue) => JsonValue
}

/** A function of the JMESPath specification. `least` and `most` bound the arguments, the one behind `&` counted. */
export interface JmesPathFunction {
  readonly least: number
  readonly most: number
  /** The position of the argument behind `&`, for those that take one. */
  readonly expressionAt?: number
  readonly call: (args: JsonArray, site: Site) => JsonValue
}

/** A type of argument: the value as that type, or undefined when it is of another. */
interface Kind<A> {
  readonly name: string
  readonly as: (value: JsonValue, meter: Meter) => A | undefined
}

const allOf =
  <A extends JsonValue>(is: (value: JsonValue) => value is A) =>
  (value: JsonValue, meter: Meter): ReadonlyArray<A> | undefined => {
    if (!isArray(value)) return undefined
    meter.spend(value.length)
    return value.every((element) => is(element)) ? value.filter((element) => is(element)) : undefined
  }

const isNumber = (value: JsonValue): value is number => typeof value === "number"
const isString = (value: JsonValue): value is string => typeof value === "string"

const any: Kind<JsonValue> = { name: "any value", as: (value) => value }
const number: Kind<number> = { name: "a number", as: (value) => (isNumber(value) ? value : undefined) }
const string: Kind<string> = { name: "a string", as: (value) => (isString(value) ? value : undefined) }
const array: Kind<JsonArray> = { name: "an array", as: (value) => (isArray(value) ? value : undefined) }
const object: Kind<JsonObject> = { name: "an object", as: (value) => (isObject(value) ? value : undefined) }
const numbers: Kind<ReadonlyArray<number>> = { name: "an array of numbers", as: allOf(isNumber) }
const strings: Kind<ReadonlyArray<string>> = { name: "an array of strings", as: allOf(isString) }
const either = <A, B>(a: Kind<A>, b: Kind<B>): Kind<A | B> => ({
  name: `${a.name} or ${b.name}`,
  as: (value, meter) => a.as(value, meter) ?? b.as(value, meter)
})
const ordered = either(numbers, strings)

const take = <A>(kind: Kind<A>, value: JsonValue | undefined, position: number, site: Site): A => {
  const taken = value === undefined ? undefined : kind.as(value, site.meter)
  if (taken === undefined) throw new JmesPathFault(`argument ${position} of ${site.name}() must be ${kind.name}`)
  return taken
}

const unary = <A>(kind: Kind<A>, run: (a: A, site: Site) => JsonValue): JmesPathFunction => ({
  least: 1,
  most: 1,
  call: ([a], site) => run(take(kind, a, 1, site), site)
})

const binary = <A, B>(
  first: Kind<A>,
  second: Kind<B>,
  run: (a: A, b: B, site: Site) => JsonValue
): JmesPathFunction => ({
  least: 2,
  most: 2,
  call: ([a, b], site) => run(take(first, a, 1, site), take(second, b, 2, site), site)
})

const variadic = <A>(kind: Kind<A>, run: (all: ReadonlyArray<A>, site: Site) => JsonValue): JmesPathFunction => ({
  least: 1,
  most: Number.POSITIVE_INFINITY,
  call: (args, site) =>
    run(
      args.map((arg, i) => take(kind, arg, i + 1, site)),
      site
    )
})

const withExpression = (
  expressionAt: 0 | 1,
  run: (elements: JsonArray, site: Site) => JsonValue
): JmesPathFunction => ({
  least: 2,
  most: 2,
  expressionAt,
  call: ([elements], site) => run(take(array, elements, 2 - expressionAt, site), site)
})

const finite = (value: number): number => {
  if (!Number.isFinite(value)) throw new JmesPathFault("a number grows out of range")
  return value
}

const sum = (all: ReadonlyArray<number>): number => finite(all.reduce((total, each) => total + each, 0))

const compare = (a: JsonValue, b: JsonValue): number => {
  if (isNumber(a) && isNumber(b)) return a - b
  return isString(a) && isString(b) ? compareText(a, b) : 0
}

/** Charges a sort of these keys before it starts, since the number of comparisons is the engine's affair. */
const spendSort = (keys: JsonArray, meter: Meter): void => {
  const size = keys.reduce((total: number, key) => total + 1 + (isString(key) ? textSteps(key) : 0), 0)
  meter.spend(Math.ceil(size * Math.log2(keys.length + 2)))
}

const sort = (keys: JsonArray, { meter }: Site): JsonArray => {
  spendSort(keys, meter)
  return keys.toSorted(compare)
}

/** Elements with their keys, which are all numbers or all strings. */
const keyed = (elements: JsonArray, { by, meter, name }: Site) => {
  const keys = elements.map((element) => by(element))
  if (numbers.as(keys, meter) === undefined && strings.as(keys, meter) === undefined) {
    throw new JmesPathFault(`the expression of ${name}() must give numbers, or strings, for all elements`)
  }
  spendSort(keys, meter)
  return elements.map((element, i) => ({ element, key: keys[i] ?? null }))
}

/** The first of those that no other surpasses; `sign` is 1 for the greatest and -1 for the least. */
const extreme = <A>(all: ReadonlyArray<A>, key: (a: A) => JsonValue, sign: 1 | -1): A | undefined =>
  all.reduce<A | undefined>(
    (best, each) => (best === undefined || sign * compare(key(each), key(best)) > 0 ? each : best),
    undefined
  )

const extremeOf = (sign: 1 | -1) =>
  unary(ordered, (all, { meter }) => {
    spendSort(all, meter)
    return extreme<number | string>(all, (each) => each, sign) ?? null
  })

const extremeBy = (sign: 1 | -1) =>
  withExpression(1, (elements, site) => extreme(keyed(elements, site), ({ key }) => key, sign)?.element ?? null)

const edge = (matches: (text: string, part: string) => boolean) =>
  binary(string, string, (text, part, { meter }) => {
    meter.spend(textSteps(part))
    return matches(text, part)
  })

const typeOf = (value: JsonValue): string => {
  if (value === null) return "null"
  return isArray(value) ? "array" : typeof value
}

const toNumber = (value: JsonValue, { meter }: Site): JsonValue => {
  if (isNumber(value)) return value
  if (!isString(value)) return null
  meter.spend(textSteps(value))
  const parsed = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(value) ? Number(value) : Number.NaN
  return Number.isFinite(parsed) ? parsed : null
}

const merge = (all: ReadonlyArray<JsonObject>, { meter }: Site): JsonObject =>
  Object.fromEntries(all.flatMap((held) => keysOf(held, meter).map((key) => [key, held[key] ?? null] as const)))

/** The functions by name, as https://jmespath.org/specification.html#built-in-functions has them. Strings are measured, compared and reversed by code point. */
export const functions: ReadonlyMap<string, JmesPathFunction> = new Map<string, JmesPathFunction>([
  ["abs", unary(number, (n) => Math.abs(n))],
  ["avg", unary(numbers, (all) => (all.length === 0 ? null : sum(all) / all.length))],
  ["ceil", unary(number, (n) => Math.ceil(n))],
  [
    "contains",
    binary(either(string, array), any, (whole, part, { meter }) => {
      if (typeof whole === "string") return isString(part) && contains(whole, part, meter)
      return whole.some((element) => equal(element, part, meter))
    })
  ],
  ["ends_with", edge((text, part) => text.endsWith(part))],
  ["floor", unary(number, (n) => Math.floor(n))],
  [
    "join",
    binary(string, strings, (glue, parts, { meter }) => {
      meter.spend(parts.reduce((total, part) => total + textSteps(part) + textSteps(glue), 0))
      return parts.join(glue)
    })
  ],
  ["keys", unary(object, (held, { meter }) => keysOf(held, meter))],
  ["length", unary(either(string, either(array, object)), (value, { meter }) => lengthOf(value, meter))],
  ["map", withExpression(0, (elements, { by }) => elements.map((element) => by(element)))],
  ["max", extremeOf(1)],
  ["max_by", extremeBy(1)],
  ["merge", variadic(object, merge)],
  ["min", extremeOf(-1)],
  ["min_by", extremeBy(-1)],
  ["not_null", variadic(any, (all) => all.find((value) => value !== null) ?? null)],
  [
    "reverse",
    unary(either(string, array), (value, { meter }) => {
      meter.spend(value.length)
      return typeof value === "string" ? [...value].toReversed().join("") : value.toReversed()
    })
  ],
  ["sort", unary(ordered, sort)],
  [
    "sort_by",
    withExpression(1, (elements, site) =>
      keyed(elements, site)
        .toSorted((a, b) => compare(a.key, b.key))
        .map(({ element }) => element)
    )
  ],
  ["starts_with", edge((text, part) => text.startsWith(part))],
  ["sum", unary(numbers, sum)],
  ["to_array", unary(any, (value) => (isArray(value) ? value : [value]))],
  ["to_number", unary(any, toNumber)],
  ["to_string", unary(any, (value, { meter }) => (isString(value) ? value : print(value, meter)))],
  ["type", unary(any, typeOf)],
  ["values", unary(object, (held, { meter }) => keysOf(held, meter).map((key) => held[key] ?? null))]
])
