#!/bin/bash
# private.sh DIR COMMAND...: make DIR, closed to other users, then become COMMAND with Ray's files in
# it. Ray opens its own folders to everybody, and its workers run code from there.
set -eu
mkdir -m 700 "$1" 2> /dev/null || true
if [[ ! -d $1 || -L $1 || ! -O $1 || $(stat -c %a "$1") != 700 ]]; then
    echo "$(hostname): $1 is not yours alone (mode 700); set RAY_TMPDIR to another folder" >&2
    exit 1
fi
export RAY_TMPDIR=$1
shift
exec "$@"
