// Exits with 0 when the program in this container says that it is well: node healthcheck.mjs <variable of the port> live|ready
const [variable = "PORT", question = "live"] = process.argv.slice(2)
try {
  const answer = await fetch(`http://127.0.0.1:${process.env[variable]}/health/${question}`, {
    signal: AbortSignal.timeout(4000)
  })
  if (!answer.ok) console.error(await answer.text())
  process.exitCode = answer.ok ? 0 : 1
} catch (cause) {
  console.error(String(cause))
  process.exitCode = 1
}
