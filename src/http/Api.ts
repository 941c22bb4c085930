import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as OpenApi from "@effect/platform/OpenApi"
import { StoreUnavailable } from "../domain/StoreUnavailable.ts"
import { version } from "../layers/Version.ts"
import { AgentsApi } from "./AgentsApi.ts"
import { AuditApi } from "./AuditApi.ts"
import { AuthApi } from "./AuthApi.ts"
import { EventsApi } from "./EventsApi.ts"
import { ExtensionsApi } from "./ExtensionsApi.ts"
import { asServed } from "./OpenApiDocument.ts"
import type { Permissions } from "./OpenApiDocument.ts"
import { PipelinesApi } from "./PipelinesApi.ts"
import { RunsApi } from "./RunsApi.ts"
import { SchedulesApi } from "./SchedulesApi.ts"
import { SecretsApi } from "./SecretsApi.ts"
import { StreamsApi } from "./StreamsApi.ts"
import { SystemApi } from "./SystemApi.ts"
import { TasksApi } from "./TasksApi.ts"
import { WorkApi } from "./WorkApi.ts"

/** Every group, and what is said of all. */
const Groups = HttpApi.make("ordinaut")
  .add(TasksApi)
  .add(RunsApi)
  .add(StreamsApi)
  .add(SchedulesApi)
  .add(PipelinesApi)
  .add(EventsApi)
  .add(WorkApi)
  .add(AgentsApi)
  .add(ExtensionsApi)
  .add(SecretsApi)
  .add(AuthApi)
  .add(AuditApi)
  .add(SystemApi)
  .addError(StoreUnavailable)
  .annotate(OpenApi.Title, "Ordinaut")
  .annotate(OpenApi.Version, version)
  .annotate(
    OpenApi.Description,
    "A durable task scheduler: schedules that hold, pipelines that finish, and a record that says why."
  )

/** The permission of every operation is the name of its middleware. */
const permissions = (): Permissions => {
  const found = new Map<string, string | null>()
  HttpApi.reflect(Groups, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint, group, middleware }) => {
      const guard = [...middleware].find(HttpApiMiddleware.isSecurity)
      found.set(`${group.identifier}.${endpoint.name}`, guard?.key ?? null)
    }
  })
  return found
}

/** The HTTP contract; the OpenAPI document and the client are derived from it. */
export const Api = Groups.annotate(OpenApi.Transform, (document) => asServed(document, permissions()))
