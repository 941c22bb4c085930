import type { Bindings } from "../../src/domain/Expression.ts"
import { find, type Zone } from "../../src/domain/Zone.ts"

/** A zone that is in the table. */
export const zone = (name: string): Zone => {
  const found = find(name)
  if (found === undefined) throw new Error(`no zone ${name}`)
  return found
}

/** What the templates and conditions of the tests see. */
export const bindings: Bindings = {
  params: { city: "Chisinau", n: 3 },
  steps: {
    w: { temp: 21.5, ok: true, none: null, tags: ["a", "b"], text: "${params.city} $${x}" },
    "get-user": { id: 7 }
  },
  errors: {},
  event: null,
  run: { id: "r1", attempt: 1 },
  task: { id: "t1", title: "Briefing", labels: {} },
  now: Date.UTC(2026, 10, 24, 8, 30),
  zone: zone("Europe/Chisinau")
}
