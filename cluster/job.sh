# Sourced by slurm.sh and sge.sh: a Ray cluster of this job's own, the search on it, a clean end.
#
# They set `job` (a name), `hosts` (the first is this one) and `cpus` (of each), and define
# `on_host HOST COMMAND...`, which becomes that command there, and `again`, which queues the job anew.
# shellcheck shell=bash disable=SC2154  # those are theirs
set -euo pipefail

bin=${CLIP_SEARCH_BIN:-$PWD/.venv/bin}  # a virtual environment that all hosts see
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_TMPDIR=${RAY_TMPDIR:-/tmp}/clip-search-$UID  # on every host; private.sh makes it
token_folder=
ray_pids=()
search_pid=
stopped=

# A token for this job alone, in a new folder of its owner's: command lines, logs and the batch
# system's spool hold its path, no more. All hosts see it; no working_dir that Ray ships contains it.
make_token() {
    local tokens=${CLIP_SEARCH_TOKENS:-$HOME/.ray}
    (umask 077 && mkdir -p "$tokens")
    if [[ $(find -H "$tokens" -maxdepth 0 -perm -o+w ! -perm -1000) ]]; then
        echo "$tokens: every user can replace what lies there; set CLIP_SEARCH_TOKENS" >&2
        return 1
    fi
    token_folder=$(mktemp -d "$tokens/clip-search-$job.XXXXXXXX")
    export RAY_AUTH_TOKEN_PATH=$token_folder/token
    (umask 077 && "$bin/python" -c 'import secrets; print(secrets.token_hex(32))' \
        > "$RAY_AUTH_TOKEN_PATH")
}

start_ray() {
    # Other jobs may share this host: no port is a fixed one.
    local ip port client dashboard i
    read -r port client dashboard < <("$bin/python" -c '
import socket
sockets = [socket.create_server(("", 0)) for _ in range(3)]
print(*(s.getsockname()[1] for s in sockets))')
    # Elsewhere `ray start` may not see this shell's environment.
    local start=(env "RAY_AUTH_MODE=$RAY_AUTH_MODE" "RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH"
        "RAY_USAGE_STATS_ENABLED=0" bash "$PWD/cluster/private.sh" "$RAY_TMPDIR" "$bin/ray" start --block --dashboard-agent-listen-port=0)
    if ((${#hosts[@]} == 1)); then
        ip=127.0.0.1
        export RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0  # all that Ray starts keeps to loopback
    else
        ip=${CLIP_SEARCH_HEAD_IP:-$("$bin/python" -c '
import ray
print(ray.util.get_node_ip_address())')}
    fi
    address=$ip:$port
    on_host "${hosts[0]}" "${start[@]}" --head --node-ip-address="$ip" --port="$port" \
        --ray-client-server-port="$client" --num-cpus="${cpus[0]}" \
        --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" &
    ray_pids+=($!)
    "$bin/python" cluster/wait_for_nodes.py "$address" 1
    for ((i = 1; i < ${#hosts[@]}; i++)); do
        on_host "${hosts[i]}" "${start[@]}" --address="$address" --num-cpus="${cpus[i]}" &
        ray_pids+=($!)
    done
    "$bin/python" cluster/wait_for_nodes.py "$address" "${#hosts[@]}"
}

# A batch system signals whole process groups, and USR1 would kill Python: the search has its own.
search() {
    [[ -z $stopped ]] || return 130
    setsid "$bin/python" run_search.py "$@" --resume --address "$address" &
    search_pid=$!
    local code=0
    while :; do  # a signal ends `wait` before the search has ended
        wait "$search_pid" && code=0 || code=$?
        kill -0 "$search_pid" 2> /dev/null || return "$code"
    done
}

stop() {
    stopped=$1
    [[ -z $search_pid ]] || kill -TERM "$search_pid" 2> /dev/null || true
}

end_ray() {
    trap '' TERM USR1 USR2
    ((${#ray_pids[@]} == 0)) || kill -TERM "${ray_pids[@]}" 2> /dev/null || true
    wait || true
    [[ -z $token_folder ]] || rm -rf "$token_folder"
}

# USR1: the time is almost up, so go on in another job. TERM, USR2: cancelled or preempted.
run_job() {
    trap 'stop time' USR1
    trap 'stop cancelled' TERM USR2
    trap end_ray EXIT
    make_token
    start_ray
    local code=0
    search "$@" || code=$?
    end_ray
    trap - EXIT
    [[ $stopped != time || $code == 0 ]] || again
    exit "$code"
}
