/** What a list is asked for: at most `limit` items older than the id `before`; null begins with the newest. */
export interface PageRequest {
  readonly limit: number
  readonly before: string | null
}

/** Items newest first, and the cursor of the next page; null at the end. */
export interface Page<A> {
  readonly items: ReadonlyArray<A>
  readonly next_cursor: string | null
}

/** A page of what a query for `limit + 1` rows found: the row too many says that there is a next page. */
export const pageOf = <A extends { readonly id: string }>(found: ReadonlyArray<A>, limit: number): Page<A> => {
  const items = found.slice(0, limit)
  return { items, next_cursor: found.length > limit ? (items.at(-1)?.id ?? null) : null }
}
