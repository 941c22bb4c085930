import type { Chance } from "./Chance.ts"
import type { Tables } from "./TwinTables.ts"
import * as Tasks from "./TwinTasks.ts"
import { short } from "./Witness.ts"
import type { Witness } from "./Witness.ts"

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
