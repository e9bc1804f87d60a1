"""Storage: S3 objects, Iceberg tables and the embedded server. See `landing` for how events are stored."""
