"""The feature stage: what it will take, which boundaries it caches, and who encodes."""
