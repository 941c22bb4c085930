import * as FastCheck from "fast-check"
import { spelled } from "./CronArbitrary.ts"
import { rules } from "./RuleArbitrary.ts"
import type { Frequency, RuleModel } from "./RuleModel.ts"
import { ruleText } from "./RuleText.ts"

/** A fault that makes any rule it is put into invalid: parts set, and parts left out. */
interface Fault {
  readonly parts: Readonly<Record<string, string>>
  readonly without?: ReadonlyArray<string>
}

const set = (name: string, ...values: ReadonlyArray<string>): ReadonlyArray<Fault> =>
  values.map((value) => ({ parts: { [name]: value } }))

const freqs = (names: ReadonlyArray<Frequency>, parts: Readonly<Record<string, string>>): ReadonlyArray<Fault> =>
  names.map((freq) => ({ parts: { FREQ: freq, ...parts } }))

/** RFC 5545 §3.3.10: what lies outside of a part's values, and what a rule MUST NOT hold. */
const faults: ReadonlyArray<Fault> = [
  { parts: {}, without: ["FREQ"] },
  ...set("FREQ", "", "FORTNIGHTLY", "DAILY,WEEKLY"),
  ...set("INTERVAL", "0", "-1", "1.5", "", "x", "1,2", "+2", "1e2"),
  ...set("COUNT", "0", "-1", "2.5", "", "x"),
  { parts: { COUNT: "3", UNTIL: "20300101T000000Z" } },
  ...set("UNTIL", "20300101", "20300230T000000Z", "20300101T240000", "20300101T0000Z", "tomorrow", "").map((fault) => ({
    ...fault,
    without: ["COUNT"]
  })),
  ...set("BYSECOND", "60", "-1", "", "1,,2", "1,", "x"),
  ...set("BYMINUTE", "60", "-1", "", "1,,2", "x"),
  ...set("BYHOUR", "24", "-1", "", ",1", "x"),
  ...set("BYMONTH", "0", "13", "-1", "", "JAN"),
  ...set("WKST", "XX", "1", "", "MO,TU"),
  ...freqs(["MONTHLY", "YEARLY", "DAILY"], { BYMONTHDAY: "0" }),
  ...freqs(["MONTHLY", "YEARLY", "DAILY"], { BYMONTHDAY: "32" }),
  ...freqs(["MONTHLY", "YEARLY"], { BYMONTHDAY: "-32" }),
  ...freqs(["YEARLY", "HOURLY"], { BYYEARDAY: "0" }),
  ...freqs(["YEARLY", "HOURLY"], { BYYEARDAY: "367" }),
  ...freqs(["YEARLY"], { BYWEEKNO: "0" }),
  ...freqs(["YEARLY"], { BYWEEKNO: "54" }),
  ...freqs(["YEARLY"], { BYWEEKNO: "-54" }),
  ...freqs(["YEARLY"], { BYWEEKNO: "20", BYDAY: "1MO" }),
  ...freqs(["MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"], { BYWEEKNO: "20" }),
  ...freqs(["MONTHLY", "WEEKLY", "DAILY"], { BYYEARDAY: "1" }),
  ...freqs(["WEEKLY"], { BYMONTHDAY: "1" }),
  ...freqs(["WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"], { BYDAY: "1MO" }),
  ...freqs(["MONTHLY"], { BYDAY: "6MO" }),
  ...freqs(["MONTHLY", "YEARLY"], { BYDAY: "0MO" }),
  ...freqs(["YEARLY"], { BYDAY: "54MO" }),
  ...set("BYDAY", "", "XX", "MO,", "1", "MO1"),
  ...set("BYSETPOS", "0", "367", "-367", "", "x").map(({ parts }) => ({ parts: { ...parts, BYMONTH: "1" } })),
  {
    parts: { BYSETPOS: "1" },
    without: ["MONTH", "WEEKNO", "YEARDAY", "MONTHDAY", "DAY", "HOUR", "MINUTE", "SECOND"].map((name) => `BY${name}`)
  },
  ...set("RSCALE", "GREGORIAN"),
  ...set("SKIP", "OMIT"),
  ...set("X-PART", "1"),
  ...set("BYEASTER", "0")
]

const broken = (rule: RuleModel, { parts, without = [] }: Fault): string => {
  const whole = ruleText(rule)
    .split(";")
    .filter((part) => ![...Object.keys(parts), ...without].includes(part.split("=")[0] ?? ""))
  return [...Object.entries(parts).map(([name, value]) => `${name}=${value}`), ...whole].join(";")
}

/** Rules with one fault, among parts that are valid by themselves, and rules with a part twice. */
export const malformedRules: FastCheck.Arbitrary<string> = FastCheck.tuple(
  rules,
  FastCheck.option(FastCheck.constantFrom(...faults), { freq: 12, nil: null })
).map(([rule, fault]) => (fault === null ? `${ruleText(rule)};FREQ=${rule.freq}` : broken(rule, fault)))

/** What no field may hold. */
const badFields = [
  "5/15",
  "60-70",
  "99",
  "-1",
  "*/0",
  "1-5/0",
  "5-1",
  "L",
  "W",
  "15W",
  "#",
  "MON#2",
  "?",
  "1,,2",
  ",1",
  "1,",
  "1-",
  "*-5",
  "1.5",
  "x",
  "**"
]

/** Cron expressions with one field that is no field, or with too few or too many of them. */
export const malformedCrons: FastCheck.Arbitrary<string> = FastCheck.oneof(
  FastCheck.tuple(spelled, FastCheck.nat(5), FastCheck.constantFrom(...badFields)).map(([{ text }, index, bad]) => {
    const fields = text.split(" ")
    return fields.map((field, place) => (place === index % fields.length ? bad : field)).join(" ")
  }),
  FastCheck.tuple(spelled, FastCheck.constantFrom(4, 7)).map(([{ text }, length]) =>
    [...text.split(" ").slice(0, 4), "*", "*", "*"].slice(0, length).join(" ")
  ),
  FastCheck.constantFrom("", " ", "@reboot", "@fortnightly", "@", "@daily 5", "* * * *")
)
