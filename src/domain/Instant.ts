import { DateTime, Either, ParseResult, Schema } from "effect"

const form = /^(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/

/** What is written must read back: an offset may lead out of the years that `Date.UTC` and four digits can say. */
const first = Date.UTC(100, 0, 1)
const last = Date.UTC(9999, 11, 31, 23, 59, 59, 999)

/** Epoch milliseconds of an RFC 3339 date-time with an offset; undefined for any other text and for dates that do not exist. */
export const parseInstant = (text: string): number | undefined => {
  const match = form.exec(text)
  if (match === null) return undefined
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number)
  const wall = Date.UTC(year ?? 0, (month ?? 0) - 1, day, hour, minute, second)
  // Date.UTC rolls 30 February over into March: what does not read back as written does not exist.
  if (new Date(wall).toISOString().slice(0, 19) !== text.slice(0, 19)) return undefined
  const millis = Date.parse(text)
  return Number.isNaN(millis) || millis < first || millis > last ? undefined : millis
}

/** An instant as it travels: RFC 3339, answered in UTC with `Z` and milliseconds, accepted with any offset. */
export const Instant = Schema.transformOrFail(Schema.String, Schema.DateTimeUtcFromSelf, {
  strict: true,
  decode: (text, _, ast) => {
    const millis = parseInstant(text)
    return millis === undefined
      ? Either.left(new ParseResult.Type(ast, text, "is no RFC 3339 instant, such as 2026-03-29T08:30:00Z"))
      : Either.right(DateTime.unsafeMake(millis))
  },
  encode: (instant) => Either.right(DateTime.formatIso(instant))
}).annotations({ identifier: "Instant", jsonSchema: { type: "string", format: "date-time" } })
