"""How well and how fast, measured; docs and RESULTS.md say what came out."""

import os

# One machine: everything Ray starts listens on 127.0.0.1. It reads this on import.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
