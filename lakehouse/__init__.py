"""An asset-based lakehouse on Dagster: landing, realtime, bronze, silver, gold and serving on S3 and Iceberg."""
