/** A change worth remembering: who did what to what, as it was and as it is. */
export interface AuditEntry {
  /** Agent id, or `system`. */
  readonly actor: string
  readonly namespace: string
  /** `task.created`, `agent.key_issued`, … */
  readonly action: string
  readonly subject_kind: string
  readonly subject_id: string
  /** What JSON can hold; null where there was, or is, nothing. */
  readonly before: unknown
  readonly after: unknown
}
