"""Programs as users write them today, and ours, for the same job.

Every peer is a command that reads a `Job` and prints an `Answer`. Each has a process tree of its
own, whose memory can be measured.
"""
