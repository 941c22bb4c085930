import type * as SqlClient from "@effect/sql/SqlClient"
import type * as Statement from "@effect/sql/Statement"
import { DateTime } from "effect"
import type { PageRequest } from "../domain/Page.ts"
import type { ScheduleKind } from "../domain/ScheduleSpec.ts"
import type { TaskStatus } from "../domain/Task.ts"

/** Which tasks a list shows; what is absent does not narrow it. */
export interface TaskFilter {
  readonly status?: TaskStatus | undefined
  readonly schedule_kind?: ScheduleKind | undefined
  readonly created_by?: string | undefined
  /** All of these, as `key:value`. */
  readonly label?: ReadonlyArray<string> | undefined
  /** A part of the title or the description, in any case. */
  readonly q?: string | undefined
  readonly due_before?: DateTime.Utc | undefined
}

/** The condition on `task t` that a page of a list stands for. */
export const narrow = (
  sql: SqlClient.SqlClient,
  visible: Statement.Fragment,
  filter: TaskFilter,
  page: PageRequest
) => {
  const pattern = `%${(filter.q ?? "").replace(/[\\%_]/g, "\\$&")}%`
  const labels = Object.fromEntries((filter.label ?? []).map((label) => splitLabel(label)))
  return sql.and([
    visible,
    ...(page.before === null ? [] : [sql`t.id < ${page.before}`]),
    ...(filter.status === undefined ? [] : [sql`t.status = ${filter.status}`]),
    ...(filter.schedule_kind === undefined ? [] : [sql`t.schedule_kind = ${filter.schedule_kind}`]),
    ...(filter.created_by === undefined ? [] : [sql`t.created_by = ${filter.created_by}`]),
    ...(filter.label === undefined ? [] : [sql`t.labels @> ${JSON.stringify(labels)}::jsonb`]),
    ...(filter.q === undefined ? [] : [sql`(t.title ILIKE ${pattern} OR t.description ILIKE ${pattern})`]),
    ...(filter.due_before === undefined ? [] : [sql`t.next_due_at < ${DateTime.toDateUtc(filter.due_before)}`])
  ])
}

const splitLabel = (label: string): readonly [string, string] => {
  const at = label.indexOf(":")
  return at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at + 1)]
}
