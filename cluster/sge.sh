#!/bin/bash
# Sun Grid Engine and its kin: one Ray cluster over the job's hosts, and the search on it. From the
# checkout, on a shared file system, with packages installed (make search, or python -m venv and pip):
#
#   qsub cluster/sge.sh search_spaces/food101.yaml --out /shared/results        # one machine's GPUs
#   qsub -pe mpi 32 cluster/sge.sh ...      # several; a parallel environment with control_slaves
#
# Names of parallel environments and of the GPU resource differ by site: qconf -spl, qconf -sc. Where
# `consumable` is YES and not JOB, GPUs are counted once a slot: -pe smp 4 -l gpu=1 asks for four.
# Ray takes the GPUs in CUDA_VISIBLE_DEVICES, or all of the machine's where the site sets none.
#$ -N clip-search
#$ -S /bin/bash
#$ -cwd
#$ -j y
#$ -pe smp 16
#$ -l gpu=4
# At the soft limit this script gets USR1; it ends the search and queues the job anew, which resumes.
# -notify: qdel sends USR2 first, and a suspension USR1.
#$ -l s_rt=23:50:00,h_rt=24:00:00
#$ -notify
#$ -r y

job=sge-$JOB_ID
if [[ -n ${PE_HOSTFILE:-} ]]; then  # a line a host and queue: host, slots, queue, processors
    mapfile -t hosts < <(awk '!seen[$1]++ {print $1}' "$PE_HOSTFILE")
    mapfile -t cpus < <(awk '!($1 in n) {order[++hosts] = $1} {n[$1] += $2}
        END {for (i = 1; i <= hosts; i++) print n[order[i]]}' "$PE_HOSTFILE")
else
    hosts=("$(hostname)")
    cpus=("${NSLOTS:-1}")
fi

on_host() {
    local host=$1
    shift
    if [[ $host == "${hosts[0]}" ]]; then exec setsid "$@"; fi
    exec setsid qrsh -inherit -nostdin "$host" "$@"
}

again() {
    # A copy of this job, where this host may submit. Else 99, which queues this one anew; but its
    # second soft limit then comes as USR2 and is its end (Grid Engine 8.1.9).
    qresub "$JOB_ID" || exit 99
}

source cluster/job.sh
run_job "$@"
