import * as HttpServer from "@effect/platform/HttpServer"
import { Effect, Layer } from "effect"
import * as FirstAdmin from "../layers/FirstAdmin.ts"
import * as Settings from "../layers/Settings.ts"

/** What a newcomer needs: the address, the docs page, at the first start the admin's key, and a request to try. */
const text = (address: string, folder: string, first: { readonly key: string; readonly path: string } | null) =>
  [
    "",
    `  Ordinaut is ready on ${address}`,
    `  API documentation    ${address}/docs`,
    ...(first === null
      ? []
      : [`  Admin's API key      ${first.key}`, `                       (shown this once; kept in ${first.path})`]),
    "",
    "  Try:",
    `    curl -s ${address}/schedules/preview -H "Authorization: Bearer ${first?.key ?? `$(cat ${folder}/admin.key)`}" \\`,
    `      -H 'Content-Type: application/json' \\`,
    `      -d '{"schedule_kind": "rrule", "schedule_expr": "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;BYHOUR=8;BYMINUTE=30"}'`,
    ""
  ].join("\n")

/** Makes the first admin where there is none, and says hello once everything runs. */
export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const { address } = yield* HttpServer.HttpServer
    const first = yield* FirstAdmin.generated
    const host =
      address._tag === "TcpAddress"
        ? `http://${address.hostname === "0.0.0.0" ? "127.0.0.1" : address.hostname}:${address.port}`
        : address.path
    const hello = text(host, yield* Settings.dataDir, first)
    yield* Effect.sync(() => process.stdout.write(`${hello}\n`))
  })
)
