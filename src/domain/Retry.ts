import { Schema } from "effect"

/** How the pause between attempts grows. */
export const BackoffStrategy = Schema.Literal("exponential_jitter", "exponential", "linear", "fixed")

/** See the schema of the same name. */
export type BackoffStrategy = typeof BackoffStrategy.Type

/** Seconds of a pause: 0 to 366 days, fractions allowed. */
export const BackoffSeconds = Schema.JsonNumber.pipe(Schema.between(0, 366 * 86_400))

/** How often something is called, and how long the pauses between the calls are. */
export const RetryPolicy = Schema.Struct({
  /** Calls in total, the first one counted. */
  max_attempts: Schema.Int.pipe(Schema.between(1, 100)),
  backoff_strategy: BackoffStrategy,
  backoff_seconds: BackoffSeconds,
  backoff_max_seconds: BackoffSeconds
})

/** See the schema of the same name. */
export type RetryPolicy = typeof RetryPolicy.Type

/** What of the backoff a policy leaves unsaid. */
export const defaultBackoff = {
  backoff_strategy: "exponential_jitter",
  backoff_seconds: 1,
  backoff_max_seconds: 3600
} as const satisfies Omit<RetryPolicy, "max_attempts">

/**
 * Milliseconds, whole, to wait after attempt `attempt` (from 1) failed, never more than `backoff_max_seconds`. `unit`
 * is the caller's random number, 0 ≤ unit < 1, and only `exponential_jitter` uses it. The limit is applied before the
 * jitter, so that attempts that have reached it stay spread.
 */
export const delay = (policy: Omit<RetryPolicy, "max_attempts">, attempt: number, unit: number): number => {
  const base = policy.backoff_seconds
  // 0 · 2^1024 is NaN, not 0
  const doubled = base === 0 ? 0 : base * 2 ** (attempt - 1)
  const capped = (seconds: number) => Math.min(seconds, policy.backoff_max_seconds) * 1000
  switch (policy.backoff_strategy) {
    case "fixed":
      return Math.round(capped(base))
    case "linear":
      return Math.round(capped(base * attempt))
    case "exponential":
      return Math.round(capped(doubled))
    case "exponential_jitter":
      return Math.round((capped(doubled) * (1 + unit)) / 2)
  }
}
