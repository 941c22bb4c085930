/** Items that one batch has at most. */
export const mostItems = 1000

/** Bytes of the body of a batch, and of one item of it as JSON, which is what a body may have that bears it alone. */
export const mostBatchBytes = 8 * 1_048_576
export const mostItemBytes = 1_048_576
