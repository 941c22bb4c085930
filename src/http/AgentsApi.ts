import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Schema } from "effect"
import {
  Agent,
  AgentCreate,
  AgentExists,
  AgentNotFound,
  AgentPatch,
  Forbidden,
  KeyCreate,
  KeyIssued,
  KeyNotFound,
  LastAdmin
} from "../domain/Agent.ts"
import { InvalidField } from "../domain/Task.ts"
import { isDay, UsageOfDay } from "../domain/Usage.ts"
import { AgentsAdmin, AgentsRead, AnyAgent } from "./Auth.ts"
import { body } from "./Bounded.ts"
import { paging, query } from "./Requests.ts"

const id = HttpApiSchema.param("id", Schema.String.annotations({ description: "id of an agent" }))
const keyId = HttpApiSchema.param("keyId", Schema.String.annotations({ description: "id of a key" }))

const Day = Schema.String.pipe(Schema.filter((text) => isDay(text) || "is a day such as 2026-03-02"))

/** Who may act, and with what. */
export class AgentsApi extends HttpApiGroup.make("agents")
  .add(
    HttpApiEndpoint.get("list", "/agents")
      .setUrlParams(query(paging))
      .addSuccess(Schema.Struct({ items: Schema.Array(Agent), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(InvalidField)
      .middleware(AgentsRead)
      .annotate(OpenApi.Summary, "List agents, newest first")
  )
  .add(
    HttpApiEndpoint.post("create", "/agents")
      .setPayload(body(AgentCreate))
      .addSuccess(Agent, { status: 201 })
      .addError(Forbidden)
      .addError(AgentExists)
      .middleware(AgentsAdmin)
      .annotate(OpenApi.Summary, "Make an agent, with no more rights than one's own")
  )
  .add(
    HttpApiEndpoint.get("get")`/agents/${id}`
      .addSuccess(Agent)
      .addError(AgentNotFound)
      .middleware(AgentsRead)
      .annotate(OpenApi.Summary, "Read an agent")
  )
  .add(
    HttpApiEndpoint.patch("patch")`/agents/${id}`
      .setPayload(body(AgentPatch))
      .addSuccess(Agent)
      .addError(Forbidden)
      .addError(AgentNotFound)
      .addError(LastAdmin)
      .middleware(AgentsAdmin)
      .annotate(OpenApi.Summary, "Change an agent's rights and limits")
  )
  .add(
    HttpApiEndpoint.del("remove")`/agents/${id}`
      .addSuccess(Schema.Void, { status: 204 })
      .addError(Forbidden)
      .addError(AgentNotFound)
      .addError(LastAdmin)
      .middleware(AgentsAdmin)
      .annotate(OpenApi.Summary, "Remove an agent and revoke its keys")
  )
  .add(
    HttpApiEndpoint.get("usage")`/agents/${id}/usage`
      .setUrlParams(
        query({
          ...paging,
          from: Schema.optionalWith(Day, { exact: true }),
          to: Schema.optionalWith(Day, { exact: true })
        })
      )
      .addSuccess(Schema.Struct({ items: Schema.Array(UsageOfDay), next_cursor: Schema.NullOr(Schema.String) }))
      .addError(Forbidden)
      .addError(AgentNotFound)
      .addError(InvalidField)
      .middleware(AnyAgent)
      .annotate(OpenApi.Summary, "What the runs of an agent used of tools, by day; of others with agents:read")
  )
  .add(
    HttpApiEndpoint.post("issueKey")`/agents/${id}/keys`
      .setPayload(body(KeyCreate))
      .addSuccess(KeyIssued, { status: 201 })
      .addError(Forbidden)
      .addError(AgentNotFound)
      .middleware(AgentsAdmin)
      .annotate(OpenApi.Summary, "Issue an API key, shown this once")
  )
  .add(
    HttpApiEndpoint.del("revokeKey")`/agents/${id}/keys/${keyId}`
      .addSuccess(Schema.Void, { status: 204 })
      .addError(Forbidden)
      .addError(AgentNotFound)
      .addError(KeyNotFound)
      .middleware(AgentsAdmin)
      .annotate(OpenApi.Summary, "Revoke an API key")
  ) {}
