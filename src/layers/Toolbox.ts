import { Layer } from "effect"
import { Budgets } from "./Budgets.ts"
import { Confidential } from "./Confidential.ts"
import { CoreToolset } from "./CoreToolset.ts"
import { ExtensionTools } from "./ExtensionTools.ts"
import { HttpExtensions } from "./HttpExtensions.ts"
import { HttpTool } from "./HttpTool.ts"
import { McpTools } from "./McpTools.ts"
import { Outgoing } from "./Outgoing.ts"
import { Tools } from "./Tools.ts"

/** Every tool that a worker has: `Tools` with all that brings them, and `McpTools`, whose connections those who list the tools share. */
export const layer = Tools.layer.pipe(
  Layer.provide([CoreToolset.layer, ExtensionTools.layer, Budgets.layer]),
  Layer.provide([HttpTool.layer, HttpExtensions.layer, Confidential.layer]),
  Layer.provideMerge(McpTools.layer),
  Layer.provide(Outgoing.layer)
)
