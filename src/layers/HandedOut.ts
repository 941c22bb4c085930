import type * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Either, Schema } from "effect"
import { reseal as resealRows } from "./SealedRows.ts"
import * as Sealing from "./Sealing.ts"

const table = "pending_item"

/** Names of secrets, each with a value that it had; a name may come more than once. */
const Values = Schema.Array(Schema.Tuple(Schema.String, Schema.String))

/** See `Values`. */
export type HandedValues = typeof Values.Type

const encode = Schema.encodeSync(Schema.parseJson(Values))
const decode = Schema.decodeUnknownEither(Schema.parseJson(Values))

interface Row {
  readonly sealed: Uint8Array | null
  readonly data_key: Uint8Array | null
  readonly key_id: string | null
}

/**
 * The values of secrets that external workers were given, kept sealed with the item as long as it is open: a secret may be replaced
 * or removed before the answer comes. Writes `sealed`, `data_key` and `key_id` of `pending_item`.
 */
export const make = (sql: SqlClient.SqlClient, sealing: Sealing.Sealing) => {
  const placeOf = (namespace: string, name: string): Sealing.Place => ({ table, namespace, name })

  const open = (
    namespace: string,
    id: string,
    { data_key, key_id, sealed }: Row
  ): Either.Either<HandedValues, Sealing.Unopenable> =>
    sealed === null || data_key === null || key_id === null
      ? Either.right([])
      : Either.flatMap(sealing.open(placeOf(namespace, id), { sealed, data_key, key_id }), (bytes) =>
          Either.mapLeft(
            decode(Buffer.from(bytes).toString()),
            () => new Sealing.Unopenable({ subject: `${table} ${id}`, reason: "tampered" })
          )
        )

  const stored = (namespace: string, id: string) => sql<Row>`
    SELECT sealed, data_key, key_id FROM pending_item WHERE id = ${id} AND namespace = ${namespace} FOR UPDATE`

  return {
    /** Every value that was handed out with an open item, under whichever lease. */
    of: (namespace: string, id: string) =>
      Effect.flatMap(stored(namespace, id), ([row]) =>
        row === undefined ? Either.right([]) : open(namespace, id, row)
      ),

    /** Keeps what a lease hands out, besides what earlier leases of the item did; answers whether the lease still holds. */
    keep: (namespace: string, id: string, lease: number, given: HandedValues) =>
      Effect.gen(function* () {
        const [row] = yield* stored(namespace, id)
        if (row === undefined) return false
        // An answer under a lease before is refused, so that what no longer opens is not needed.
        const before = Either.getOrElse(open(namespace, id, row), (): HandedValues => [])
        const isKnown = ([name, value]: HandedValues[number]) =>
          before.some(([knownName, known]) => knownName === name && known === value)
        const all = [...before, ...given.filter((one) => !isKnown(one))]
        const { data_key, key_id, sealed } = sealing.seal(placeOf(namespace, id), Buffer.from(encode(all)))
        const kept = yield* sql`
          UPDATE pending_item SET sealed = ${sealed}, data_key = ${data_key}, key_id = ${key_id}
          WHERE id = ${id} AND lease_no = ${lease} AND result IS NULL RETURNING id`
        return kept.length > 0
      }).pipe(sql.withTransaction)
  }
}

/** As `SealedRows.reseal`, of what was handed out. */
export const reseal = (sql: SqlClient.SqlClient, sealing: Sealing.Sealing) => resealRows(sql, sealing, table, "id")
