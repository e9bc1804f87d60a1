"""The Dagster instance of a lakehouse: event log, run launcher, run forker, daemon, supervisor and pruning.

What runs in it is in `automation`.
"""
