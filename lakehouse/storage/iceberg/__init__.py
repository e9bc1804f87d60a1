"""Iceberg tables: catalog, commits, snapshots and manifests."""
