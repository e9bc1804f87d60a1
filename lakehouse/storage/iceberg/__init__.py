"""Iceberg tables: the catalog, schemas, commits, snapshots and manifests."""
