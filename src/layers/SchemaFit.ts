import { Effect } from "effect"
import type { JsonObject, JsonValue } from "../domain/Json.ts"
import { StepFailed } from "../domain/StepFailed.ts"
import type { JsonSchemas } from "./JsonSchemas.ts"

/** Judges a value by those of the schemas that there are; fails with the code, the first place that is wrong, and why. */
export const fits =
  (
    schemas: typeof JsonSchemas.Service,
    code: "tool_input_invalid" | "tool_output_invalid",
    all: ReadonlyArray<JsonObject | undefined>
  ) =>
  (value: JsonValue): Effect.Effect<void, StepFailed> =>
    Effect.forEach(
      all.flatMap((schema) => (schema === undefined ? [] : [schema])),
      (schema) =>
        schemas.validate(schema, value).pipe(
          Effect.catchTag("SchemaRefused", ({ message }) =>
            StepFailed.of(code, `cannot be judged by its schema, which ${message}`)
          ),
          Effect.flatMap(([problem]) =>
            problem === undefined ? Effect.void : StepFailed.of(code, `${problem.path}: ${problem.message}`)
          )
        ),
      { discard: true }
    )
