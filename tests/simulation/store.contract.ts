import { firing } from "./contract.firing.ts"
import { leases } from "./contract.leases.ts"
import { rows } from "./contract.rows.ts"
import { waits } from "./contract.waits.ts"

export { Store } from "./contract.ts"

/** What every store of runs does, by name: the in-memory twin and PostgreSQL alike. */
export const contract = { ...rows, ...leases, ...waits, ...firing }
