"""The audit log, of who did what: entries are only added, and each holds the hash of the one before.

The comparison of layers is in `auditing`, which also checks this log.
"""
