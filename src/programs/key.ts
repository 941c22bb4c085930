import { randomBytes } from "node:crypto"
import { fromRandom } from "../domain/ApiKey.ts"

process.stdout.write(`${fromRandom(randomBytes(41)).text}\n`)
