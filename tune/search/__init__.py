"""The search: what is tried next, which trials go on, and which one wins."""
