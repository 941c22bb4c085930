import jmespath from "jmespath"
import { JmesPathFault } from "./JmesPathMeter.ts"

/** A token of the package's lexer; undefined stands where it met a lone `=`. */
interface Token {
  readonly type: string
  readonly start: number
}

/** The package's typings name `search` alone; it exports its parser and lexer as well. */
const parser = jmespath as unknown as {
  readonly compile: (text: string) => unknown
  readonly tokenize: (text: string) => ReadonlyArray<Token | undefined>
}

const quotes: ReadonlySet<string> = new Set(["'", '"', "`"])

/** The position behind the quoted piece (`'…'`, `"…"` or backticks) that starts at `at`; undefined where it is not closed. */
export const endOfQuoted = (text: string, at: number): number | undefined => {
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] === "\\") i++
    else if (text[i] === text[at]) return i + 1
  }
  return undefined
}

/** Whether a quoted piece starts at `at`. */
export const startsQuoted = (text: string, at: number): boolean => quotes.has(text[at] ?? "")

const unescapeRaw = (content: string) =>
  content.replaceAll(/\\(['\\])/g, (pair, escaped: string) => (escaped === "'" ? "'" : pair))

const asLiteral = (json: string) =>
  `\`${json.replaceAll(/\\([`\\])|`/g, (pair, escaped?: string) => (escaped === "\\" ? pair : "\\u0060"))}\``

/**
 * The same expression with raw strings as JSON literals and no escaped backtick. The package's lexer takes an unclosed
 * quote for closed, undoes only the first escape of a piece and knows no carriage return.
 */
const normalize = (text: string): string => {
  let out = ""
  let i = 0
  while (i < text.length) {
    if (!startsQuoted(text, i)) {
      out += text[i] === "\r" ? " " : text[i]
      i++
      continue
    }
    const end = endOfQuoted(text, i)
    if (end === undefined) throw new JmesPathFault(`the ${text[i]} at character ${i + 1} is not closed`)
    const content = text.slice(i + 1, end - 1)
    if (text[i] === "'") out += asLiteral(JSON.stringify(unescapeRaw(content)))
    else out += text[i] === "`" ? asLiteral(content) : text.slice(i, end)
    i = end
  }
  return out
}

const types = (names: string): ReadonlySet<string> => new Set(names.split(" "))

const endsOperand = types(
  "UnquotedIdentifier QuotedIdentifier Literal Current Number Star Flatten Rbracket Rparen Rbrace"
)
const startsOperand = types("UnquotedIdentifier QuotedIdentifier Literal Current Number Not Expref Lbrace")
const closes = types("Rbracket Rparen Rbrace")

const checkNumber = (text: string, token: Token, before: Token | undefined, after: Token | undefined): void => {
  const digits = /^[\d-]+/.exec(text.slice(token.start))?.[0] ?? ""
  const glued = /[\w"]/.test(text[token.start - 1] ?? "")
  if (glued && digits.startsWith("-")) {
    throw new JmesPathFault('a name with "-" in it is quoted, as in steps."get-user"; JMESPath does not subtract')
  }
  if (before?.type === "Dot") throw new JmesPathFault(`a key that starts with a digit is quoted: "${digits}"`)
  const places =
    (before?.type === "Lbracket" || before?.type === "Colon") && (after?.type === "Rbracket" || after?.type === "Colon")
  if (places && /^-?\d+$/.test(digits)) return
  const number = /^-?\d+(\.\d+)?([eE][+-]?\d+)?/.exec(text.slice(token.start))?.[0] ?? "0"
  throw new JmesPathFault(`a number is written between backticks: \`${number}\``)
}

/** Refuses what the package's parser lets pass: numbers out of place, missing and trailing commas, `[:::]`. */
const checkTokens = (text: string, tokens: ReadonlyArray<Token | undefined>): void => {
  let colons = 0
  for (const [i, token] of tokens.entries()) {
    const before = tokens[i - 1]
    if (token === undefined) throw new JmesPathFault("= alone is no operator; equality is ==")
    if (token.type === "Number") checkNumber(text, token, before, tokens[i + 1])
    if (token.type === "Colon") colons++
    else if (token.type !== "Number") colons = 0
    if (colons > 2) throw new JmesPathFault("a slice has at most two colons")
    if (before === undefined) continue
    if (endsOperand.has(before.type) && startsOperand.has(token.type)) {
      throw new JmesPathFault(`an operator or a comma is missing before character ${token.start + 1}`)
    }
    if (before.type === "Comma" && closes.has(token.type)) throw new JmesPathFault("nothing follows a comma")
  }
}

const named = types("LexerError ParserError")

/** The parser's words where they are meant for a reader; it also throws TypeErrors and the like. */
const reason = (error: unknown): string => {
  if (error instanceof SyntaxError) return "a literal between backticks, or a quoted name, is not JSON"
  return error instanceof Error && named.has(error.name) ? error.message : "it is not complete"
}

/** The package's syntax tree of an expression, unchecked. Throws a `JmesPathFault` for what is not JMESPath. */
export const parse = (text: string): unknown => {
  const source = normalize(text)
  try {
    checkTokens(source, parser.tokenize(source))
    return parser.compile(source)
  } catch (error) {
    throw error instanceof JmesPathFault ? error : new JmesPathFault(reason(error))
  }
}
