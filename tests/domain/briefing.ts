/** The pipeline of the README: what is on today, what the weather does, in one message. */
export const briefing = [
  {
    id: "calendar",
    uses: "google-calendar-mcp.list_events",
    with: { start: "${now}", end: "${now+24h}" },
    save_as: "events"
  },
  { id: "weather", uses: "weather-mcp.forecast", with: { city: "Chisinau" }, save_as: "weather" },
  {
    id: "summarize",
    uses: "llm.plan",
    with: { instruction: "Create morning briefing", calendar: "${steps.events}", weather: "${steps.weather}" },
    save_as: "summary"
  },
  {
    id: "notify",
    uses: "telegram-mcp.send_message",
    with: { chat_id: 12345, text: "${steps.summary.text}" }
  }
] as const
