import { Context } from "effect"

/** What joins a request with the changes that it makes: the request's id, null outside of one. */
export class RequestId extends Context.Reference<RequestId>()("ordinaut/RequestId", {
  defaultValue: (): string | null => null
}) {}
