"""Keeping a lake that runs for years quick and small: compaction, expiry, orphans, manifests, retention. No Dagster here."""
