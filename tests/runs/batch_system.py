"""Stand-ins of a batch system, and of what its jobs start.

Stand-ins of `srun`, `scontrol` and `qrsh` start what they are asked to on this machine, each host
with a loopback address of its own. Stand-ins of Ray and of the search write down their arguments
and signals.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.runs.helpers import ROOT

SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "alpha,beta", "SLURM_CPUS_PER_TASK": "3"}
ON_HOST = """
echo "$host $*" >> "$STAND_IN/started"
[[ $host == alpha ]] && exec "$@"
exec "$@" --node-ip-address=127.0.0.3
"""
STAND_INS = {
    "srun": """
for option; do
    [[ $option == --* ]] || break
    [[ $option != --nodelist=* ]] || host=${option#*=}
    shift
done
"""
    + ON_HOST,
    "qrsh": """
[[ $1 == -inherit && $2 == -nostdin ]] || exit 64
host=$3
shift 3
"""
    + ON_HOST,
    "scontrol": """
case $1 in
    show) tr , "\\n" <<< "$3" ;;
    requeue) echo "$2" >> "$STAND_IN/requeued" ;;
esac
""",
}
NOTES_SIGNALS = """
for signal in TERM USR1 USR2; do
    trap "echo $name $signal >> $STAND_IN/signals; [[ $signal != TERM ]] || exit 130" $signal
done
"""
UNTIL_TERM = "while :; do sleep 0.02; done\n"
PROGRAMS = {
    "python": f"""
[[ $1 != -c ]] || exec {sys.executable} "$@"
note() {{ echo "$* $RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" >> "$STAND_IN/programs"; }}
if [[ $1 == cluster/wait_for_nodes.py ]]; then
    touch "$STAND_IN/programs"
    until (($(grep -c "^ray " "$STAND_IN/programs") >= $3)); do sleep 0.02; done
    note "$@"
    exit 0
fi
note "$@"
name=search
{NOTES_SIGNALS}
cp "$RAY_AUTH_TOKEN_PATH" "$STAND_IN/token"
echo "$RAY_AUTH_MODE" > "$STAND_IN/searching"
[[ ! -e $STAND_IN/outcome ]] || exit "$(cat "$STAND_IN/outcome")"
{UNTIL_TERM}""",
    "ray": f"""
name=ray
{NOTES_SIGNALS}
echo "ray $*" >> "$STAND_IN/programs"
{UNTIL_TERM}""",
}


@dataclass
class BatchSystem:
    """Starts job scripts as a batch system would, and sees what they did."""

    folder: Path
    programs: Path
    jobs: list[subprocess.Popen[str]] = field(default_factory=list)

    def submit(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a job script, in a process group of its own; it sees two hosts on loopback."""
        settings = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "STAND_IN": str(self.folder),
            "CLIP_SEARCH_BIN": str(self.programs),
            "CLIP_SEARCH_HEAD_IP": "127.0.0.2",
            "CLIP_SEARCH_TOKENS": str(self.folder / "tokens"),
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        job = subprocess.Popen(
            ["bash", f"cluster/{script}", *arguments],
            cwd=ROOT,
            env={**inherited, **settings, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.jobs.append(job)
        return job

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def tokens(self) -> list[Path]:
        """The job's folder for its token and the token's file, while it has them."""
        return sorted((self.folder / "tokens").rglob("*"))


def write_scripts(folder: Path, scripts: dict[str, str]) -> Path:
    """Make a folder of programs; returns it."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash{script}")
        (folder / name).chmod(0o755)
    return folder


@contextmanager
def batch_system(folder: Path, programs: Path | None = None) -> Iterator[BatchSystem]:
    """A batch system in a folder of its own; ends its jobs.

    Args:
        folder: made here.
        programs: a folder with `python` and `ray`; by default those that run the tests.
    """
    system = BatchSystem(write_scripts(folder, STAND_INS), programs or Path(sys.executable).parent)
    yield system
    for job in system.jobs:
        if job.poll() is None:
            family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
            for process in family:
                process.kill()


def secrets_shown(token: str, job: subprocess.Popen[str]) -> list[str]:
    """The command lines of the job's processes that hold its token."""
    lines = []
    for process in psutil.Process(job.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            lines.append(" ".join(process.cmdline()))
    return [line for line in lines if token in line]


def hostfile(folder: Path) -> str:
    """Grid Engine's list of a job's hosts: two, the second with slots in two queues."""
    path = folder / "pe_hostfile"
    lines = ("alpha 1 all.q@alpha", "beta 1 gpu.q@beta", "beta 2 all.q@beta")
    path.write_text("".join(f"{line} UNDEFINED\n" for line in lines))
    return str(path)
