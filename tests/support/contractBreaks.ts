/** A JSON Schema or a part of an OpenAPI document, as far as it is compared. */
type Node = Readonly<Record<string, unknown>>

const isNode = (value: unknown): value is Node => typeof value === "object" && value !== null && !Array.isArray(value)
const node = (value: unknown): Node => (isNode(value) ? value : {})
const list = (value: unknown): ReadonlyArray<unknown> => (Array.isArray(value) ? value : [])
const text = (value: unknown) => JSON.stringify(value)

/** Whether a value travels to the server or from it: what may become narrower or wider depends on it. */
type Way = "sent" | "received"

const bounds = [
  ["minimum", 1],
  ["minLength", 1],
  ["minItems", 1],
  ["maximum", -1],
  ["maxLength", -1],
  ["maxItems", -1]
] as const

/**
 * What a client that was written against one OpenAPI document cannot do with another, or does not understand: each as a sentence.
 * A request may ask for no more and allow no less than before, an answer may hold no less and nothing of another kind.
 */
export const contractBreaks = (before: unknown, after: unknown): ReadonlyArray<string> => {
  const breaks: Array<string> = []
  const resolve = (document: unknown, value: unknown): Node => {
    const reference = node(value)["$ref"]
    if (typeof reference !== "string") return node(value)
    const found = reference
      .split("/")
      .slice(1)
      .reduce((at: unknown, name) => node(at)[name], document)
    // What stands beside a reference holds too (JSON Schema 2020-12 §8.2.3.1).
    const { $ref: _, ...beside } = node(value)
    return { ...node(found), ...beside }
  }
  const seen = new Set<string>()

  const schemas = (where: string, oldRaw: unknown, newRaw: unknown, way: Way): void => {
    const pair = `${way} ${text(oldRaw)} ${text(newRaw)}`
    if (node(oldRaw)["$ref"] !== undefined) {
      if (seen.has(pair)) return
      seen.add(pair)
    }
    const [was, is] = [resolve(before, oldRaw), resolve(after, newRaw)]
    if (text(was["type"]) !== text(is["type"]))
      breaks.push(`${where}: its type was ${text(was["type"])} and is ${text(is["type"])}`)
    const [wasEnum, isEnum] = [list(was["enum"]), list(is["enum"])]
    if (wasEnum.length > 0 || isEnum.length > 0) {
      // An answer may tell of fewer values, but what is sent must still be taken; a value that is new in an answer is no break: clients
      // are told to expect some.
      const gone = wasEnum.filter((value) => !isEnum.some((one) => text(one) === text(value)))
      if (gone.length > 0) breaks.push(`${where}: lacks the values ${gone.map(text).join(", ")}`)
      if (way === "sent" && wasEnum.length === 0) breaks.push(`${where}: takes certain values alone`)
    }
    if (way === "sent") {
      for (const [name, sign] of bounds) {
        const [old, now] = [was[name], is[name]].map((value) => (typeof value === "number" ? value * sign : -Infinity))
        if ((now ?? 0) > (old ?? 0))
          breaks.push(`${where}: its ${name} was ${text(was[name])} and is ${text(is[name])}`)
      }
      if (was["pattern"] !== is["pattern"] && is["pattern"] !== undefined) breaks.push(`${where}: has another pattern`)
    }
    const [wasFields, isFields] = [node(was["properties"]), node(is["properties"])]
    for (const [name, old] of Object.entries(wasFields)) {
      if (isFields[name] === undefined) breaks.push(`${where}.${name}: is gone`)
      else schemas(`${where}.${name}`, old, isFields[name], way)
    }
    const [wasNeeded, isNeeded] = [list(was["required"]), list(is["required"])]
    for (const name of isNeeded) {
      if (way === "sent" && !wasNeeded.includes(name)) breaks.push(`${where}.${String(name)}: is required`)
    }
    for (const name of wasNeeded) {
      if (way === "received" && !isNeeded.includes(name)) breaks.push(`${where}.${String(name)}: may be absent`)
    }
    if (was["items"] !== undefined) schemas(`${where}[]`, was["items"], is["items"], way)
    if (isNode(was["additionalProperties"])) {
      schemas(`${where}.*`, was["additionalProperties"], is["additionalProperties"], way)
    }
    const [wasAny, isAny] = [list(was["anyOf"]), list(is["anyOf"])]
    if (wasAny.length > isAny.length) breaks.push(`${where}: has ${isAny.length} forms and had ${wasAny.length}`)
    wasAny.forEach((old, at) => schemas(`${where}|${at}`, old, isAny[at], way))
  }

  const operations = (where: string, was: Node, is: Node) => {
    const named = (parameters: unknown) =>
      new Map(list(parameters).map((one) => [`${String(node(one)["in"])}.${String(node(one)["name"])}`, node(one)]))
    const [old, now] = [named(was["parameters"]), named(is["parameters"])]
    for (const [name, parameter] of old) {
      const other = now.get(name)
      if (other === undefined) breaks.push(`${where} ${name}: is gone`)
      else schemas(`${where} ${name}`, parameter["schema"], other["schema"], "sent")
    }
    for (const [name, parameter] of now) {
      if (parameter["required"] === true && old.get(name)?.["required"] !== true) {
        breaks.push(`${where} ${name}: is required`)
      }
    }
    const [wasBody, isBody] = [node(was["requestBody"]), node(is["requestBody"])]
    if (isBody["required"] === true && wasBody["required"] !== true) breaks.push(`${where}: its body is required`)
    for (const [type, content] of Object.entries(node(wasBody["content"]))) {
      const other = node(isBody["content"])[type]
      if (other === undefined) breaks.push(`${where}: takes no ${type}`)
      else schemas(`${where} body`, node(content)["schema"], node(other)["schema"], "sent")
    }
    for (const [status, answer] of Object.entries(node(was["responses"]))) {
      const other = node(is["responses"])[status]
      // A refusal that does not happen any more hurts nobody.
      if (other === undefined) {
        if (status < "400") breaks.push(`${where}: answers no ${status}`)
        continue
      }
      for (const [type, content] of Object.entries(node(node(answer)["content"]))) {
        const given = node(node(other)["content"])[type]
        if (given === undefined) breaks.push(`${where} ${status}: is no ${type}`)
        else schemas(`${where} ${status}`, node(content)["schema"], node(given)["schema"], "received")
      }
    }
    if (list(was["security"]).length === 0 && list(is["security"]).length > 0)
      breaks.push(`${where}: asks for credentials`)
  }

  for (const [path, methods] of Object.entries(node(node(before)["paths"]))) {
    const others = node(node(node(after)["paths"])[path])
    for (const [method, operation] of Object.entries(node(methods))) {
      const where = `${method.toUpperCase()} ${path}`
      if (others[method] === undefined) breaks.push(`${where}: is gone`)
      else operations(where, node(operation), node(others[method]))
    }
  }
  return breaks
}
