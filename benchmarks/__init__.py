"""Measurements of quality and speed; docs/ says what came out."""

import os

# On one machine, everything that Ray starts listens on 127.0.0.1. Ray reads this on import.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
