"""Faults on purpose: killed processes, an unreliable network, and the rounds that use them."""
