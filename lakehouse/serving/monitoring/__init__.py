"""Monitoring: the live overview, alerts, daily metrics and partition states, as `api` serves them."""
