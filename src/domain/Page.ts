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

/**
 * A page of what a query for `limit + 1` rows found: the row too many says that there is a next page. `cursorOf` names the row that
 * the next page comes after.
 */
export const pageBy = <A>(found: ReadonlyArray<A>, limit: number, cursorOf: (last: A) => string): Page<A> => {
  const items = found.slice(0, limit)
  const last = items.at(-1)
  return { items, next_cursor: found.length > limit && last !== undefined ? cursorOf(last) : null }
}

/** As `pageBy`, by id. */
export const pageOf = <A extends { readonly id: string }>(found: ReadonlyArray<A>, limit: number): Page<A> =>
  pageBy(found, limit, ({ id }) => id)

/** Bytes that the items of a page may have together; one alone may have more. */
export const mostPageBytes = 4 * 1_048_576

/** How many of the next items a page may hold, by their bytes: as many as fit, but one at least. */
export const fittingPage = (sizes: ReadonlyArray<number>): number => {
  let bytes = 0
  const over = sizes.findIndex((size) => (bytes += size) > mostPageBytes)
  return Math.max(1, over < 0 ? sizes.length : over)
}
