#!/usr/bin/env bash
# Starts the whole system in containers.
#   ops/start.sh dev  [--build] [--logs]   images built from this folder
#   ops/start.sh ghcr [--logs]             published images: ORDINAUT_REGISTRY (such as ghcr.io/owner) and ORDINAUT_VERSION
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  sed -n '2,4p' start.sh | cut -c3- >&2
  exit 2
}

mode="${1:-}"
case "$mode" in dev | ghcr) shift ;; *) usage ;; esac
build=no logs=no
for option in "$@"; do
  case "$option" in
    --build) build=yes ;;
    --logs) logs=yes ;;
    *) usage ;;
  esac
done
[ "$mode" = dev ] || [ "$build" = no ] || usage

if [ "$mode" = ghcr ]; then
  : "${ORDINAUT_REGISTRY:?names where the images are, such as ghcr.io/owner}" "${ORDINAUT_VERSION:?names the version of the images}"
  export ORDINAUT_REGISTRY ORDINAUT_VERSION
fi

# The secrets of this installation, made once and never overwritten.
random() { head -c "$1" /dev/urandom | base64 | tr -d '\n'; }
if [ ! -e .env ]; then
  image="${ORDINAUT_REGISTRY:-local}/ordinaut-api:${ORDINAUT_VERSION:-dev}"
  [ "$mode" = ghcr ] || docker build --quiet --tag "$image" --file docker/api.Dockerfile .. > /dev/null
  key="$(docker run --rm --network none "$image" node key.js)"
  (
    umask 077
    {
      echo "ORDINAUT_SECRET=$(random 32)"
      echo "ORDINAUT_ADMIN_KEY=$key"
      echo "POSTGRES_PASSWORD=$(random 24 | tr '+/' '-_')"
      echo "GRAFANA_PASSWORD=$(random 24 | tr '+/' '-_')"
    } > .env.new
  )
  mv -n .env.new .env
  echo "Made ops/.env with the secrets of this installation. Keep it: what is sealed with them cannot be opened without." >&2
fi

compose=(docker compose --env-file .env -f compose.yaml)
if [ "$mode" = ghcr ]; then
  "${compose[@]}" pull --quiet
  "${compose[@]}" up --detach --no-build
else
  up=(up --detach)
  [ "$build" = no ] || up+=(--build)
  "${compose[@]}" "${up[@]}"
fi
# Not `up --wait`: it takes the end of `migrate` for a failure.
for ((left = 60; ; left--)); do
  "${compose[@]}" exec -T api node healthcheck.mjs PORT ready > /dev/null 2>&1 && break
  [ "$left" -gt 0 ] || { echo "The API is not ready; see docker compose -f ops/compose.yaml logs api migrate." >&2; exit 1; }
  sleep 1
done
echo "API http://127.0.0.1:${PORT:-8080}/docs · Prometheus http://127.0.0.1:9090 · Grafana http://127.0.0.1:3000" >&2
echo "The admin's key is ORDINAUT_ADMIN_KEY in ops/.env." >&2
[ "$logs" = no ] || exec "${compose[@]}" logs --follow api scheduler worker
