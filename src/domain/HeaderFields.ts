/** Header fields that the client sets itself, because they rule the connection and the framing of messages (RFC 9110 §7.6.1). */
const reserved: ReadonlySet<string> = new Set([
  ...["connection", "content-length", "expect", "host", "http2-settings", "keep-alive", "proxy-authenticate"],
  ...["proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"]
])

/** Bytes of one value. */
const maxValue = 16_384

/** Why a user may not give a header of this name; undefined for one that may be given. */
export const headerNameProblem = (name: string): string | undefined => {
  if (!/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}$/.test(name))
    return "a header's name has letters, digits and - alone, at most 200"
  return reserved.has(name.toLowerCase()) ? "this header is set by the client alone" : undefined
}

/** Why a text cannot be the value of a header: it may not break its line, and has one byte a character (RFC 9110 §5.5). */
export const headerValueProblem = (value: string): string | undefined => {
  if (!/^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value))
    return "a header's value has no line breaks or control characters, and nothing beyond Latin-1"
  return value.length > maxValue ? `a header's value has at most ${maxValue} characters` : undefined
}

/** Whether a text is fit for a header as an opaque id: visible ASCII, at most 256. */
export const fitsHeader = (id: string): boolean => /^[\u0021-\u007e]{1,256}$/.test(id)
