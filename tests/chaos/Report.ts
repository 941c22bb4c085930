import type { Report } from "./Round.ts"

const quantile = (values: ReadonlyArray<number>, q: number) => {
  const sorted = values.toSorted((a, b) => a - b)
  return ((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0) / 1000).toFixed(1)
}

const times = (values: ReadonlyArray<number>) =>
  values.length === 0 ? "none" : `${values.length}, p50 ${quantile(values, 0.5)} s, max ${quantile(values, 1)} s`

/** The report in lines to be read. */
export const lines = (report: Report): ReadonlyArray<string> => [
  ...[...report.faults]
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([kind, n]) => `${String(n).padStart(5)}  ${kind}`),
  ...(report.hadFalseClock ? [] : ["       no clock was set wrong: libfaketime is not installed"]),
  `requests: ${[...report.answers]
    .toSorted()
    .map(([status, n]) => `${status} ${n}`)
    .join(", ")}`,
  `runs: ${report.runs.map(({ n, state }) => `${n} ${state}`).join(", ")}`,
  `${report.occurrences} occurrences decided, ${report.events} events, ${report.entries} entries of the log, ${report.calls} calls of tools, ${report.decisions} decisions`,
  `leases of killed workers taken back: ${times(report.rescued)}; leased again or over: ${times(report.resumed)}`,
  `ends after SIGTERM: ${times(report.stopped)}`,
  `at rest ${report.restSeconds.toFixed(1)} s after the last fault`,
  `${report.violations.length} violations`,
  ...report.violations.map((sentence) => `VIOLATION ${sentence.slice(0, 2000)}`)
]
