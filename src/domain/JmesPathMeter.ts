/** Ends a compilation or an evaluation from deep within. Never leaves the JMESPath files: their entries catch it. */
export class JmesPathFault extends Error {}

/** Steps that one document of templates, or one condition, may take: about 0.1 s at worst. */
export const stepBudget = 1_000_000

/** Counts what an evaluation does. Steps and not time, so that the same expression over the same data always ends alike. */
export class Meter {
  #left: number
  readonly #whole: Meter | undefined

  /** `whole` is what several evaluations may take together, beside each one's own budget. */
  constructor(budget: number = stepBudget, whole?: Meter) {
    this.#left = budget
    this.#whole = whole
  }

  /** Takes `steps` (at least one step for each value or eight characters looked at); past the budget it throws a `JmesPathFault`. */
  spend(steps: number): void {
    this.#left -= steps
    if (this.#left < 0) throw new JmesPathFault("it takes too many steps over this data")
    this.#whole?.spend(steps)
  }
}
