"""Where a run's copy and its trials' checkpoints lie."""
