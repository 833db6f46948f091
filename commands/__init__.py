"""The commands of `run_search.py`, one file each with a `run`; without a word it searches."""

SEARCH = "search"
COMMANDS = ("evaluate", "export", "predict", "report")
"""The words that may come first; `commands.<word>` is imported when it is called."""
