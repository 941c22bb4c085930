const { dtstart, expr, kind, library } = JSON.parse(process.argv[2] ?? "") as {
  readonly library: string
  readonly kind: "rrule" | "cron"
  readonly expr: string
  readonly dtstart: string
}
const zone = "Europe/Chisinau"
const after = Date.UTC(2026, 2, 20, 12, 0, 0)

/** One call: parse and next, as a scheduler that has just read the rule; undefined where the library has no such kind. */
const makers: Record<string, () => Promise<(() => unknown) | undefined>> = {
  ordinaut: async () => {
    const { compile } = await import("../src/domain/ScheduleSpec.ts")
    const createdAt = Date.UTC(2024, 0, 1)
    return () => {
      const made = compile({ kind, expr, timezone: zone, dtstart: kind === "rrule" ? dtstart : null, createdAt })
      return made._tag === "Right" ? made.right.next(after) : made.left.code
    }
  },
  rrule: async () => {
    if (kind === "cron") return undefined
    const { rrulestr } = await import("rrule")
    const start = dtstart.replaceAll(/[-:]/g, "")
    return () => rrulestr(`DTSTART;TZID=${zone}:${start}\nRRULE:${expr}`).after(new Date(after))
  },
  "rrule-temporal": async () => {
    if (kind === "cron") return undefined
    if (!("Temporal" in globalThis)) {
      const { Temporal } = await import("@js-temporal/polyfill")
      Object.assign(globalThis, { Temporal })
    }
    const { RRuleTemporal } = await import("rrule-temporal")
    const start = dtstart.replaceAll(/[-:]/g, "")
    return () =>
      new RRuleTemporal({ rruleString: `DTSTART;TZID=${zone}:${start}\nRRULE:${expr}` }).next(new Date(after))
  },
  croner: async () => {
    if (kind === "rrule") return undefined
    const { Cron } = await import("croner")
    return () => new Cron(expr, { timezone: zone, paused: true }).nextRun(new Date(after))
  }
}

const made = await makers[library]?.()
process.send?.("ready")
process.once("message", () => {
  if (made === undefined) return void process.send?.("–")
  const times: Array<number> = []
  let answer: unknown
  try {
    const until = performance.now() + 1000
    for (let n = 0; n < 2000 && (n === 0 || performance.now() < until); n++) {
      const started = performance.now()
      answer = made()
      times.push((performance.now() - started) * 1000)
    }
  } catch (error) {
    return process.send?.(`error: ${String(error).slice(0, 30)}`)
  }
  times.sort((a, b) => a - b)
  const median = times[Math.floor(times.length / 2)] ?? 0
  const none = answer === null || answer === undefined || answer === "never_fires"
  process.send?.(`${median < 10 ? median.toFixed(1) : Math.round(median)}${none ? " (none)" : ""}`)
})
