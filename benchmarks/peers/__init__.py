"""What users do today, each written as they write it, and ours beside them: one job, one answer.

Every peer is a command that reads a `Job` and prints an `Answer`, so that each has a process tree
of its own whose memory can be measured.
"""
