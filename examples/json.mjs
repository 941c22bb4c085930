// Prints the JSON on its standard input: laid out, or the one value at a path, such as `id` or `items.0.run_id`.
// `jq` does the same and more; this needs nothing but Node.
let text = ""
for await (const chunk of process.stdin) text += chunk
const path = process.argv[2]
const value = (path?.split(".") ?? []).reduce((inner, name) => inner?.[name], JSON.parse(text))
if (value === undefined) {
  console.error(`there is no ${path} in ${text}`)
  process.exit(1)
}
console.log(typeof value === "string" ? value : JSON.stringify(value, null, 2))
