import { fork } from "node:child_process"
import { fileURLToPath } from "node:url"

/**
 * What the next occurrence of a rule costs, beside its peers, in one run: `npm run bench:next`. Each cell is the median of the
 * calls of one second in a process of its own, at most 2,000, parse included ("µs"), or "> 5 s" where there was no answer by then.
 */

interface Case {
  readonly kind: "rrule" | "cron"
  readonly expr: string
  readonly dtstart: string
}

const rrule = (expr: string, dtstart = "2024-01-01T09:00:00"): Case => ({ kind: "rrule", expr, dtstart })
const cron = (expr: string): Case => ({ kind: "cron", expr, dtstart: "2024-01-01T00:00:00" })

const ordinary: ReadonlyArray<Case> = [
  rrule("FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYHOUR=8;BYMINUTE=30"),
  rrule("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=8;BYMINUTE=30"),
  rrule("FREQ=DAILY"),
  rrule("FREQ=MONTHLY;BYMONTHDAY=-1"),
  rrule("FREQ=YEARLY;BYMONTH=3;BYDAY=2SU"),
  rrule("FREQ=HOURLY;INTERVAL=6"),
  rrule("FREQ=MINUTELY;INTERVAL=15"),
  cron("30 8 * * 1-5"),
  cron("*/15 * * * *"),
  cron("0 0 1 * *")
]

const hostile: ReadonlyArray<Case> = [
  rrule("FREQ=DAILY", "1970-01-01T09:00:00"),
  rrule("FREQ=MINUTELY", "2023-01-01T00:00:00"),
  rrule("FREQ=SECONDLY", "1970-01-01T00:00:00"),
  rrule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"),
  rrule("FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30"),
  rrule("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=TU"),
  rrule("FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;BYHOUR=0,6,12,18;BYMINUTE=0,15,30,45;BYSETPOS=-366"),
  rrule("FREQ=SECONDLY;INTERVAL=86399;BYHOUR=3;BYMINUTE=7;BYSECOND=11"),
  cron("0 0 31 2 *"),
  cron("0 0 29 2 1")
]

const libraries = ["ordinaut", "rrule", "rrule-temporal", "croner"] as const
const patience = 5000

const cell = (library: string, one: Case): Promise<string> =>
  new Promise((resolve) => {
    const worker = fork(
      fileURLToPath(new URL("nextWorker.ts", import.meta.url)),
      [JSON.stringify({ library, ...one })],
      {
        execArgv: ["--import", "tsx"],
        stdio: ["ignore", "ignore", "inherit", "ipc"]
      }
    )
    let started = false
    let deadline: NodeJS.Timeout | undefined
    const end = (text: string) => {
      clearTimeout(deadline)
      worker.kill("SIGKILL")
      resolve(text)
    }
    worker.on("message", (message: unknown) => {
      if (!started) {
        started = true
        deadline = setTimeout(() => end("> 5 s"), patience)
        worker.send("go")
      } else end(String(message))
    })
    worker.on("exit", () => end("error"))
    worker.on("error", (error) => end(`error: ${error.message.slice(0, 30)}`))
  })

const table = async (title: string, cases: ReadonlyArray<Case>) => {
  console.log(`\n| ${title} | ${libraries.join(" | ")} |\n| --- | ${libraries.map(() => "---").join(" | ")} |`)
  for (const one of cases) {
    const cells: Array<string> = []
    for (const library of libraries) cells.push(await cell(library, one))
    console.log(`| \`${one.expr}\`${one.dtstart.startsWith("1970") ? " from 1970" : ""} | ${cells.join(" | ")} |`)
  }
}

await table("ordinary", ordinary)
await table("hostile", hostile)
