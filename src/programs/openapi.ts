import * as OpenApi from "@effect/platform/OpenApi"
import { Api } from "../http/Api.ts"

process.stdout.write(`${JSON.stringify(OpenApi.fromApi(Api), null, 2)}\n`)
