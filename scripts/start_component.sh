#!/usr/bin/env bash
# Runs one part of the sample network in this terminal: scripts/start_component.sh maestro|peer1|peer2|peer3 [flags]
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: scripts/start_component.sh maestro|peer1|peer2|peer3 [flags of that program]" >&2
  exit 2
}

[ $# -ge 1 ] || usage
component=$1
shift
[ -f dist/peer/main.js ] || npm run --silent build

case $component in
  maestro) exec node dist/maestro/main.js --config config/maestro.json "$@" ;;
  peer1 | peer2 | peer3) exec node dist/peer/main.js run --config "config/$component.json" "$@" ;;
  *) usage ;;
esac
