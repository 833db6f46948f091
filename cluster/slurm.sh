#!/bin/bash
# Slurm: one Ray cluster over the job's nodes, and the search on it. From the checkout, on a shared
# file system, with packages installed (make search, or python -m venv and pip):
#
#   sbatch cluster/slurm.sh search_spaces/food101.yaml --out /shared/results
#
#SBATCH --job-name=clip-search
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
# This script gets USR1 five minutes before the end. It then ends the search and queues the job anew,
# which resumes. Where jobs are preempted, Slurm itself queues them anew.
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=clip-search-%j.log

job=slurm-$SLURM_JOB_ID
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
for ((i = 0; i < ${#hosts[@]}; i++)); do cpus[i]=${SLURM_CPUS_PER_TASK:-1}; done

on_host() {
    local host=$1
    shift
    # srun does not inherit --cpus-per-task (Slurm 22.05).
    exec srun --nodes=1 --ntasks=1 --nodelist="$host" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$@"
}

again() {
    scontrol requeue "$SLURM_JOB_ID"
}

source cluster/job.sh
run_job "$@"
