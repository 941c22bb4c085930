import type { Actor } from "./Agent.ts"

/** What of an entry of the log says whose it is. */
interface Owned {
  readonly topic: string
  readonly namespace: string
  readonly agent_id: string | null
}

const change = /^ordinaut\.(?:run|task)\./

/** Whether an entry tells of a change of state that an agent may see: of its own runs and tasks, for an admin of its namespace's. */
export const shows = (viewer: Pick<Actor, "id" | "namespace" | "scopes">, entry: Owned): boolean =>
  change.test(entry.topic) &&
  entry.namespace === viewer.namespace &&
  (entry.agent_id === viewer.id || viewer.scopes.includes("admin"))

/** Whether a topic tells of a run's end. */
export const isEnd = (topic: string): boolean => /^ordinaut\.run\.(?:succeeded|failed|canceled|skipped)$/.test(topic)
