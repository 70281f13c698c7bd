#!/bin/sh
# The cluster launch script: see cluster-launch.mjs, which does the work.
command -v node >/dev/null || { echo 'cluster-launch: there is no node on the PATH: Node 20 or 22 is needed' >&2; exit 2; }
exec node "$(dirname "$(readlink -f "$0")")/cluster-launch.mjs" "$@"
