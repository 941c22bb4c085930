// A server of the Model Context Protocol with one tool, over streamable HTTP, with the official SDK. Each request gets a
// server of its own, so that nothing has to be remembered between them.
import { Server } from "@modelcontextprotocol/sdk/server/index.js"
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js"
import { CallToolRequestSchema, ListToolsRequestSchema } from "@modelcontextprotocol/sdk/types.js"
import { createServer } from "node:http"

const port = 4102
const meters = { mm: 0.001, cm: 0.01, m: 1, km: 1000, in: 0.0254, ft: 0.3048, mi: 1609.344 }

const unit = { type: "string", enum: Object.keys(meters) }
const convert = {
  name: "convert",
  description: "Converts a length from one unit into another",
  inputSchema: {
    type: "object",
    properties: { value: { type: "number" }, from: unit, to: unit },
    required: ["value", "from", "to"],
    additionalProperties: false
  },
  outputSchema: {
    type: "object",
    properties: { value: { type: "number" }, unit },
    required: ["value", "unit"]
  }
}

const makeServer = () => {
  const server = new Server({ name: "units", version: "1.0.0" }, { capabilities: { tools: {} } })
  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: [convert] }))
  server.setRequestHandler(CallToolRequestSchema, ({ params: { arguments: given, name } }) => {
    console.log(`${name} ${JSON.stringify(given)}`)
    if (name !== convert.name) return { isError: true, content: [{ type: "text", text: `there is no tool ${name}` }] }
    // Twelve digits, so that no reader has to see what binary fractions do.
    const value = Number(((given.value * meters[given.from]) / meters[given.to]).toPrecision(12))
    const structuredContent = { value, unit: given.to }
    return { content: [{ type: "text", text: JSON.stringify(structuredContent) }], structuredContent }
  })
  return server
}

createServer(async (request, response) => {
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined })
  response.on("close", () => transport.close())
  try {
    await makeServer().connect(transport)
    await transport.handleRequest(request, response)
  } catch (error) {
    console.log(`refused: ${error.message}`)
    if (!response.headersSent) response.writeHead(500)
    response.end()
  }
}).listen(port, "127.0.0.1", () => console.log(`units listen on http://127.0.0.1:${port}/mcp`))
