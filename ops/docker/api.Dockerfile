# syntax=docker/dockerfile:1
# Built from the root of the repository: docker build -f ops/docker/api.Dockerfile -t ordinaut-api .
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

# What is built is the same for every platform.
FROM --platform=$BUILDPLATFORM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY scripts/build.ts scripts/
COPY migrations migrations
COPY src src
RUN node --import tsx scripts/build.ts /out

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="ordinaut-api" org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production NODE_OPTIONS=--enable-source-maps LOG_FORMAT=json HOST=0.0.0.0 PORT=8080
WORKDIR /app
COPY package.json LICENSE ./
COPY ops/docker/healthcheck.mjs ./
COPY --from=build /out/api.js /out/api.js.map /out/JsonSchemaThread.js /out/JsonSchemaThread.js.map ./
# What is run once, and by hand: node migrate.js, key.js, audit-verify.js.
COPY --from=build /out/migrate.js /out/migrate.js.map /out/key.js /out/audit-verify.js /out/audit-verify.js.map ./
COPY --from=build /out/migrations ./migrations
# The account "node" of the base, by number: Kubernetes cannot see whether a name is root.
USER 1000:1000
EXPOSE 8080
# Liveness: an orchestrator that restarts what is unhealthy shall not do so because the database is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["node", "healthcheck.mjs", "PORT", "live"]
STOPSIGNAL SIGTERM
# Node itself is process 1: the program handles SIGTERM and SIGINT, and starts no processes that would have to be reaped.
CMD ["node", "api.js"]
