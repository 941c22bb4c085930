// The four tools of the morning briefing in one small program: a calendar, a weather service, one that writes, one that
// sends. Ordinaut posts {tool, input, run, step, idempotency_key, lease}, signed; 2xx JSON is the tool's output.
import { createHmac, timingSafeEqual } from "node:crypto"
import { createServer } from "node:http"

const port = 4101
/** `signing_secret` of the extensions. This one is public: where others can reach your tools, use one that is not. */
const secret = process.env.SIGNING_SECRET ?? "whsec_b3JkaW5hdXQtZXhhbXBsZS1zaWduaW5nLWtleQ=="
const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64")

/** Standard Webhooks: HMAC-SHA-256 over `id.timestamp.body`, and no request older than five minutes. */
const isSigned = (headers, body) => {
  const { "webhook-id": id, "webhook-signature": signatures = "", "webhook-timestamp": timestamp } = headers
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) < 300)) return false
  const wanted = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest()
  return signatures.split(" ").some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64")
    return given.length === wanted.length && timingSafeEqual(given, wanted)
  })
}

/** A failure with its status: 4xx ends the step, 5xx is tried again. */
const refuse = (status, message) => Object.assign(new Error(message), { status })

/** Every day alike, in UTC. */
const agenda = [
  { time: "09:30", title: "Stand-up" },
  { time: "11:00", title: "Review of the budget" },
  { time: "15:45", title: "Call with the bank" }
]
const climate = { Chisinau: { temp: 21, sky: "clear" }, Reykjavik: { temp: 4, sky: "rain" } }
/** What was sent, by idempotency key: a call that is repeated after a crash sends nothing twice. */
const sent = new Map()

const tools = {
  "google-calendar-mcp.list_events": ({ end, start }) => {
    const days = [start, end].map((instant) => instant.slice(0, 10))
    const all = agenda.flatMap(({ time, title }) => days.map((day) => ({ at: `${day}T${time}:00.000Z`, title })))
    return { events: all.filter(({ at }) => at >= start && at < end) }
  },
  "weather-mcp.forecast": ({ city }) => {
    if (!Object.hasOwn(climate, city)) throw refuse(404, `no forecast for ${city}`)
    return { city, ...climate[city] }
  },
  "llm.plan": ({ calendar, weather }) => {
    const meetings = calendar.events.map(({ at, title }) => `${at.slice(11, 16)} ${title}`)
    return { text: `${weather.city}: ${weather.temp} degrees, ${weather.sky}. Today: ${meetings.join(", ")}.` }
  },
  "telegram-mcp.send_message": ({ chat_id, text }, call) => {
    if (!sent.has(call.idempotency_key)) {
      sent.set(call.idempotency_key, { message_id: sent.size + 1 })
      console.log(`to chat ${chat_id}: ${text}`)
    }
    return sent.get(call.idempotency_key)
  }
}

const answer = (headers, body, path) => {
  if (!isSigned(headers, body)) throw refuse(401, "the signature is not right")
  const call = JSON.parse(body)
  if (!Object.hasOwn(tools, call.tool) || path !== `/${call.tool.replace(".", "/")}`) throw refuse(404, "no such tool")
  console.log(`${call.tool} for step ${call.step}, attempt ${call.run.attempt}`)
  return tools[call.tool](call.input, call)
}

createServer(async (request, response) => {
  const reply = (status, value) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value))
  try {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    reply(200, answer(request.headers, Buffer.concat(chunks).toString(), request.url))
  } catch (error) {
    console.log(`refused: ${error.message}`)
    reply(error.status ?? 500, { error: error.message })
  }
}).listen(port, "127.0.0.1", () => console.log(`tools listen on http://127.0.0.1:${port}`))
