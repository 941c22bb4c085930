import type { Chance } from "./Chance.ts"
import type { Tables } from "./TwinTables.ts"
import * as Runs from "./TwinRuns.ts"
import * as Tasks from "./TwinTasks.ts"
import { short } from "./Witness.ts"
import type { Witness } from "./Witness.ts"

/** Somebody answers some of what runs wait for without an end: nothing else wakes them. */
export const answerSome = (tables: Tables, witness: Witness, chance: Chance) => {
  const open = [...tables.live].flatMap(([run, { waits }]) =>
    [...waits.values()].flatMap(({ expires_at, id, result }) =>
      expires_at === null && result === null && chance.maybe(0.5) ? [{ run, id }] : []
    )
  )
  for (const { id, run } of open) {
    witness.note(`somebody answers ${short(run)}`)
    Runs.answer(tables, [{ id, result: { output: "yes" } }])
  }
}

/** The owner of a task does something with it: runs it now, pauses, resumes or cancels it. */
export const act = (tables: Tables, witness: Witness, chance: Chance, id: string, now: number) => {
  const dice = chance.unit()
  const say = (what: string) => witness.note(`the owner ${what} ${short(id)}`)
  if (dice < 0.4) {
    say("runs")
    Tasks.runNow(tables, id, now)
  } else if (dice < 0.65) {
    say("pauses")
    Tasks.pause(tables, id)
  } else if (dice < 0.92) {
    say("resumes")
    Tasks.resume(tables, id, chance.pick([null, "skip", "fire_all", "fire_once"]), now)
  } else {
    say("cancels")
    Tasks.cancel(tables, id, now)
  }
}
