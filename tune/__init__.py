"""A run: its stages, the search, and the processes at work."""
