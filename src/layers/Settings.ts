import { Config, ConfigError, Duration, Either, Redacted } from "effect"
import { find } from "../domain/Zone.ts"
import { defaultPorts, parsePorts, parsePrivateTargets } from "./Targets.ts"

/** One environment variable, as `--help` and the docs list it. */
export interface Setting {
  readonly name: string
  readonly default: string
  readonly meaning: string
}

const table: Array<Setting> = []

/** Every setting, in the order of this file. */
export const settings: ReadonlyArray<Setting> = table

/** Lists a variable under its `Config`. */
export const setting = <A>(row: Setting, config: Config.Config<A>): Config.Config<A> => {
  table.push(row)
  return config
}

/** A whole number within bounds, which its meaning tells. */
export const integer = (
  name: string,
  fallback: number,
  from: number,
  to: number,
  meaning: string
): Config.Config<number> =>
  setting(
    { name, default: String(fallback), meaning: `${meaning} (${from} to ${to})` },
    Config.string(name).pipe(Config.mapOrFail(wholeNumber(name, from, to)), Config.withDefault(fallback))
  )

const wholeNumber = (name: string, from: number, to: number) => (text: string) => {
  const n = /^-?\d+$/.test(text.trim()) ? Number(text) : NaN
  return n >= from && n <= to
    ? Either.right(n)
    : Either.left(refused(`${name} takes a whole number from ${from} to ${to}`))
}

const choice = <const A extends string>(
  name: string,
  values: ReadonlyArray<A>,
  fallback: A,
  meaning: string
): Config.Config<A> =>
  setting(
    { name, default: fallback, meaning: `${meaning} (${values.join(", ")})` },
    Config.literal(...values)(name).pipe(Config.withDefault(fallback))
  )

/** Address that the API listens on; the all-in-one program stays on the loopback. */
export const host = setting(
  { name: "HOST", default: "127.0.0.1 (all-in-one), 0.0.0.0", meaning: "address that the API listens on" },
  Config.option(Config.nonEmptyString("HOST"))
)

/** Port of the API. */
export const port = integer("PORT", 8080, 0, 65_535, "port of the API; 0 takes a free one")

/** Port of health and metrics of a scheduler or worker; none: 8081 or 8082, or a free one where that is taken. */
export const opsPort = setting(
  {
    name: "OPS_PORT",
    default: "8081 (scheduler), 8082 (worker)",
    meaning:
      "port of health and metrics of a scheduler or worker; a default that is taken gives way to a free one, 0 takes a free one"
  },
  Config.option(Config.string("OPS_PORT").pipe(Config.mapOrFail(wholeNumber("OPS_PORT", 0, 65_535))))
)

/** PostgreSQL 15 or newer, as a URL. */
export const databaseUrl = setting(
  {
    name: "DATABASE_URL",
    default: "the embedded database (all-in-one)",
    meaning: "PostgreSQL 15 or newer: postgres://user:password@host:port/database"
  },
  Config.redacted("DATABASE_URL").pipe(
    Config.validate({
      message: "DATABASE_URL takes a URL such as postgres://user:password@host:5432/ordinaut",
      validation: (url) => /^postgres(ql)?:\/\/\S+$/.test(Redacted.value(url))
    })
  )
)

/** Redis 7 or Valkey, as a URL; none: the stream is a table of the database. */
export const redisUrl = setting(
  {
    name: "REDIS_URL",
    default: "none (the stream is a table)",
    meaning: "Redis 7 or Valkey: redis://user:password@host:port/0"
  },
  Config.option(
    Config.redacted("REDIS_URL").pipe(
      Config.validate({
        message: "REDIS_URL takes a URL such as redis://127.0.0.1:6379",
        validation: (url) => /^rediss?:\/\/\S+$/.test(Redacted.value(url))
      })
    )
  )
)

/** Connections to PostgreSQL of one process. */
export const databaseConnections = integer(
  "DATABASE_CONNECTIONS",
  10,
  2,
  1000,
  "connections to PostgreSQL of one process"
)

/** Folder of the embedded database and of the generated secrets. */
export const dataDir = setting(
  {
    name: "ORDINAUT_DATA_DIR",
    default: "./.ordinaut",
    meaning: "folder of the embedded database and of the generated secrets"
  },
  Config.nonEmptyString("ORDINAUT_DATA_DIR").pipe(Config.withDefault("./.ordinaut"))
)

/** API key of the first admin, taken when no admin exists yet. */
export const adminKey = setting(
  {
    name: "ORDINAUT_ADMIN_KEY",
    default: "generated (all-in-one)",
    meaning: "API key of the first admin, taken when there is none yet; `npm run key` makes one"
  },
  Config.option(Config.redacted("ORDINAUT_ADMIN_KEY"))
)

const secretForm =
  "ORDINAUT_SECRET takes at least 32 random bytes in base64 (openssl rand -base64 32), or several with commas between"

const decodeSecrets = (text: Redacted.Redacted): Either.Either<ReadonlyArray<Uint8Array>, ConfigError.ConfigError> => {
  const secrets = Redacted.value(text)
    .split(",")
    .map((part) => Buffer.from(part.trim(), "base64"))
  const weak = secrets.some((secret) => secret.length < 32 || new Set(secret).size < 12)
  return weak ? Either.left(refused(secretForm)) : Either.right(secrets)
}

/** Master secrets; the first encrypts, all decrypt. */
export const secrets = setting(
  {
    name: "ORDINAUT_SECRET",
    default: "generated (all-in-one), else required",
    meaning: "at least 32 bytes in base64; a comma list rotates: the first encrypts, all decrypt"
  },
  Config.option(Config.redacted("ORDINAUT_SECRET").pipe(Config.mapOrFail(decodeSecrets)))
)

/** Zone of tasks that name none. */
export const timezone = setting(
  { name: "ORDINAUT_TIMEZONE", default: "Europe/Chisinau", meaning: "zone of tasks that name none" },
  Config.nonEmptyString("ORDINAUT_TIMEZONE").pipe(
    Config.validate({
      message: "ORDINAUT_TIMEZONE takes an IANA zone such as Europe/Chisinau",
      validation: (name) => find(name) !== undefined
    }),
    Config.withDefault("Europe/Chisinau")
  )
)

/** What becomes of a tool that no extension brings. */
export const unknownTools = choice(
  "ORDINAUT_UNKNOWN_TOOLS",
  ["simulate", "fail"],
  "simulate",
  "what becomes of a tool that no extension brings"
)

/** Unfinished runs of one task, whatever starts them. */
export const maxUnfinishedRuns = integer(
  "ORDINAUT_MAX_UNFINISHED_RUNS",
  10_000,
  1,
  1_000_000,
  "unfinished runs of one task; what would be more is refused, or recorded as skipped"
)

const privateForm = "ORDINAUT_ALLOW_PRIVATE_TARGETS takes hosts, addresses and CIDR ranges with commas between"

/** What the calls of tools may reach though it is not public. */
export const allowedPrivateTargets = setting(
  {
    name: "ORDINAUT_ALLOW_PRIVATE_TARGETS",
    default: "none",
    meaning:
      "hosts, addresses or CIDR ranges that the calls of tools may reach though they are private, comma-separated"
  },
  Config.string("ORDINAUT_ALLOW_PRIVATE_TARGETS").pipe(
    Config.mapOrFail((text) =>
      Either.mapLeft(parsePrivateTargets(text), (entry) => refused(`${privateForm}; "${entry}" is none`))
    ),
    Config.withDefault([])
  )
)

const portsForm = "ORDINAUT_ALLOWED_PORTS takes ports and ranges such as 443,9000-9099"

/** Ports that the calls of tools may reach. */
export const allowedPorts = setting(
  {
    name: "ORDINAUT_ALLOWED_PORTS",
    default: "80,443,1024-65535",
    meaning: "ports and ranges of ports that the calls of tools may reach, and no others, comma-separated"
  },
  Config.string("ORDINAUT_ALLOWED_PORTS").pipe(
    Config.mapOrFail((text) =>
      Either.mapLeft(parsePorts(text), (entry) => refused(`${portsForm}; "${entry}" is none`))
    ),
    Config.withDefault(defaultPorts)
  )
)

/** No schedule may fire more often. */
export const minIntervalSeconds = integer(
  "ORDINAUT_MIN_INTERVAL_SECONDS",
  1,
  1,
  86_400,
  "no schedule may fire more often"
)

/** Runs at once in a worker process. */
export const workerConcurrency = integer("WORKER_CONCURRENCY", 50, 1, 10_000, "runs at once in a worker process")

/** How long a worker owns a row before another may take it; renewed at a third of it. */
export const leaseFor = integer("LEASE_SECONDS", 15, 6, 3600, "how long a worker owns a run without renewing").pipe(
  Config.map(Duration.seconds)
)

/** How long running steps may go on after SIGTERM. */
export const shutdownGrace = integer(
  "SHUTDOWN_GRACE_SECONDS",
  25,
  0,
  3600,
  "how long running steps may go on after SIGTERM"
).pipe(Config.map(Duration.seconds))

/** Finished runs are kept that long. */
export const runRetentionDays = integer("RUN_RETENTION_DAYS", 30, 1, 3650, "days that finished runs are kept")

/** Events are kept that long. */
export const eventRetentionDays = integer("EVENT_RETENTION_DAYS", 30, 1, 3650, "days that events are kept")

/** Entries of the audit trail are kept that long. */
export const auditRetentionDays = integer(
  "AUDIT_RETENTION_DAYS",
  365,
  1,
  36_500,
  "days that the audit trail and the usage of tools are kept"
)

/** Least severe level that is logged. */
export const logLevel = choice(
  "LOG_LEVEL",
  ["trace", "debug", "info", "warning", "error", "none"],
  "info",
  "least severe level that is logged"
)

/** Form of the log lines. */
export const logFormat = setting(
  { name: "LOG_FORMAT", default: "pretty on a terminal, else json", meaning: "form of the log lines (pretty, json)" },
  Config.option(Config.literal("pretty", "json")("LOG_FORMAT"))
)

/** Where traces go, by OTLP over HTTP; none: nothing is traced. */
export const otlpEndpoint = setting(
  { name: "OTEL_EXPORTER_OTLP_ENDPOINT", default: "none", meaning: "where traces go, by OTLP over HTTP" },
  Config.option(Config.nonEmptyString("OTEL_EXPORTER_OTLP_ENDPOINT"))
)

/** What a scraper must send as bearer token; none: /metrics is open. */
export const metricsToken = setting(
  { name: "METRICS_TOKEN", default: "none (/metrics is open)", meaning: "bearer token that /metrics asks for" },
  Config.option(Config.redacted("METRICS_TOKEN"))
)

/** A `ConfigError` of one variable. */
export const invalid = (name: string, message: string): ConfigError.ConfigError =>
  ConfigError.InvalidData([name], message)

/** The same within a `Config` of the variable, which adds its name. */
export const refused = (message: string): ConfigError.ConfigError => ConfigError.InvalidData([], message)
