// An external worker: it leases steps of the extension `numbers`, counts primes, and says how that went. It needs no port
// and no address of its own: it only calls the API. ORDINAUT_KEY is the key of an agent with the scope work:execute.
import { setImmediate, setTimeout } from "node:timers/promises"

const api = process.env.ORDINAUT_URL ?? "http://127.0.0.1:8080"
const post = async (path, body) => {
  const headers = { authorization: `Bearer ${process.env.ORDINAUT_KEY}`, "content-type": "application/json" }
  const answer = await fetch(api + path, { method: "POST", headers, body: JSON.stringify(body) })
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
  return answer.status === 204 ? null : answer.json()
}

const isPrime = (n) => {
  for (let d = 2; d * d <= n; d++) if (n % d === 0) return false
  return n > 1
}

const countPrimes = async ({ below }, signal) => {
  if (below > 10_000_000) throw new Error(`${below} is more than this worker counts to`)
  let count = 0
  for (let n = 0; n < below && !signal.aborted; n++) {
    if (n % 10_000 === 0) await setImmediate()
    if (isPrime(n)) count++
  }
  return { count }
}

const work = async ({ id, input, lease_token, step_id }) => {
  const stop = new AbortController()
  const heartbeat = () =>
    post(`/work/${id}/heartbeat`, { lease_token, lease_seconds: 15 }).then(
      ({ cancel }) => cancel && stop.abort(),
      () => stop.abort()
    )
  const beating = setInterval(heartbeat, 5000)
  try {
    const output = await countPrimes(input, stop.signal)
    if (!stop.signal.aborted) await post(`/work/${id}/complete`, { lease_token, output })
    console.log(stop.signal.aborted ? `${step_id}: stopped` : `${step_id}: ${output.count} primes`)
  } catch (error) {
    console.log(`${step_id}: ${error.message}`)
    await post(`/work/${id}/fail`, { lease_token, message: error.message }).catch(() => undefined)
  } finally {
    clearInterval(beating)
  }
}

console.log(`waiting for work of ${api}`)
for (;;) {
  const wanted = { tools: ["numbers.count_primes"], limit: 1, wait_seconds: 20, lease_seconds: 15 }
  try {
    const { items } = await post("/work/lease", wanted)
    await Promise.all(items.map(work))
  } catch (error) {
    console.log(error.message)
    await setTimeout(2000)
  }
}
