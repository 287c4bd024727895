#!/usr/bin/env bash
# Runs one part of the sample network in this terminal: scripts/start_component.sh maestro|peer1|peer2|peer3 [flags]
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: scripts/start_component.sh maestro|peer1|peer2|peer3 [flags of that program; --help lists them]"
}

component=${1:-}
case $component in
  maestro | peer1 | peer2 | peer3) ;;
  -h | --help) usage && exit 0 ;;
  *) usage >&2 && exit 2 ;;
esac
shift
# A person wants what the program says, and of its log only what went wrong; --log-level and P2P_LOG_LEVEL say otherwise.
[ -t 2 ] && export P2P_LOG_LEVEL="${P2P_LOG_LEVEL:-error}"
[ -f dist/peer/main.js ] || npm run --silent build

case $component in
  maestro) exec node dist/maestro/main.js --config config/maestro.json "$@" ;;
  *) exec node dist/peer/main.js run --config "config/$component.json" "$@" ;;
esac
