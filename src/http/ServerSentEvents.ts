import { DateTime } from "effect"
import type { Numbered } from "../layers/EventStream.ts"

const encoder = new TextEncoder()

/** Texts as the bytes that are sent. */
export const bytes = (texts: ReadonlyArray<string>): Uint8Array => encoder.encode(texts.join(""))

/** One event (HTML standard §9.2.6). JSON has no line break of its own. */
export const event = (id: number, topic: string, data: unknown): string =>
  `id: ${id}\nevent: ${topic}\ndata: ${JSON.stringify(data)}\n\n`

/** What a stream begins with: how long a client waits before it comes back, in milliseconds, and something to see. */
export const greeting = "retry: 2000\n: open\n\n"

/** Says that the stream lives; the id is taken by the client, so that it comes back behind what it was not shown either. */
export const alive = (number: number): string => `: alive\n\nid: ${number}\n\n`

/** An entry of the log as an event. */
export const change = ({ entry, number }: Numbered): string =>
  event(number, entry.topic, { ...Object(entry.payload), at: DateTime.formatIso(entry.at) })

/** Says that changes between what the client had and `number` cannot be told any more: what it knows is to be read anew. */
export const reset = (number: number): string => event(number, "reset", { last_event_id: number })
