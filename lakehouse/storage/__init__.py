"""Where bytes and tables are kept: S3 objects, the Iceberg catalog, commits, the embedded server. Not events."""
