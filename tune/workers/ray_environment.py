"""What Ray reads from the environment; it reads some of it when it is imported."""

from __future__ import annotations

import os

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
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def set_ray_environment(loopback: bool) -> None:
    """Set what the user has not set; to be called before Ray is imported.

    With `loopback`, as on one machine, everything that Ray starts listens on 127.0.0.1 alone.
    """
    for name, value in (SETTINGS | (LOOPBACK if loopback else {})).items():
        os.environ.setdefault(name, value)
