"""The Dagster instance: event log, run launcher, daemon, supervisor and pruning."""
