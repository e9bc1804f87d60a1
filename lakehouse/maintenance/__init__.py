"""Maintenance of tables and objects: compaction, snapshot expiry, orphan files, manifests, retention, tags, withdrawal and
erasure.

No Dagster here: `automation.maintenance` runs these tasks as a job, `cli` runs them by hand.
"""
