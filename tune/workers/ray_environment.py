"""What Ray reads from the environment; it reads some of it when it is imported."""

from __future__ import annotations

import os
from pathlib import Path

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task without a GPU may still see them
    # The journal is the run's state: nobody reads Tune's own snapshots and logs of trials.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # run_search.py handles Ctrl-C
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
PATHS = ("RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH")  # Ray is started in another folder
LONGEST = 14  # of TMPDIR, in ASCII: sockets lie deep in it, and their paths have 107 bytes at most
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def set_ray_environment(loopback: bool) -> None:
    """Set what the user has not set; to be called before Ray is imported.

    With `loopback`, as on one machine, everything that Ray starts listens on 127.0.0.1 alone.
    """
    for name, value in (SETTINGS | (LOOPBACK if loopback else {})).items():
        os.environ.setdefault(name, value)
    for name in PATHS:
        if given := os.environ.get(name):
            os.environ[name] = os.path.abspath(os.path.expanduser(given))
    temporary = os.environ.get("TMPDIR", "")
    if len(temporary) > LONGEST or not temporary.isascii():
        del os.environ["TMPDIR"]
    try:
        Path.home()
    except RuntimeError:  # a user whom the system does not know; Ray's import fails without one
        os.environ["HOME"] = "/nonexistent"
